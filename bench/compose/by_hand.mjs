// The same answer as the gateway's `/five`, written by hand: fastify as server, undici as client.
import { createRequire } from "node:module";

const require = createRequire(process.argv[3] + "/");
const fastify = require("fastify");
const { Pool } = require("undici");

const pool = new Pool(`http://127.0.0.1:${process.argv[2]}`, { connections: 256, headersTimeout: 10_000, bodyTimeout: 10_000 });
const carried = ["x-request-id", "traceparent", "accept-language"];

async function part(path, headers) {
  const { statusCode, body } = await pool.request({ path, method: "GET", headers });
  if (statusCode !== 200) throw new Error("a part failed");
  return body.json();
}

const server = fastify();
server.get("/five", async (request) => {
  const user = encodeURIComponent(request.query.user);
  const headers = { accept: "application/json" };
  for (const name of carried) if (request.headers[name]) headers[name] = request.headers[name];
  const [profile, orders, products, stock, ads] = await Promise.all(
    [`/users?id=${user}`, `/orders?user=${user}`, "/products", "/stock", "/ads"].map((path) => part(path, headers)),
  );
  return {
    name: profile.name,
    orders: orders.items.map((o) => ({ id: o.id, product: o.product })),
    products: products.items.map((p) => p.title),
    stock: stock.items[0].stock,
    ads: ads.items.slice(0, 2).map((a) => a.title),
  };
});
await server.listen({ port: 0, host: "127.0.0.1" });
process.stdout.write(`${server.server.address().port}\n`);
