
ý
inventory.protoshop.inventory.v1"#
GetStockRequest
sku (	Rsku"S
Stock
sku (	Rsku
quantity (Rquantity
	warehouse (	R	warehouse2U
	InventoryH
GetStock".shop.inventory.v1.GetStockRequest.shop.inventory.v1.Stockbproto3