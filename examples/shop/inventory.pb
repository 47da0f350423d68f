
Ç
inventory.protoshop.inventory.v1"#
GetStockRequest
sku (	Rsku"S
Stock
sku (	Rsku
quantity (Rquantity
	warehouse (	R	warehouse2Z
	InventoryM
GetStock".shop.inventory.v1.GetStockRequest.shop.inventory.v1.Stock"êbproto3