// A server for the tests: accounts, databases and containers are @vercel/cosmosdb-server's, items are ours.
//
//     node corrected.js PORT PACKAGE_FOLDER [KEY]
//
// README.md beside this file says which behaviours rest on our own reading of the protocol.
"use strict";

const crypto = require("crypto");
const { createRequire } = require("module");

const [, , port, folder, key] = process.argv;
const load = createRequire(`${folder}/package.json`);
const { createHttpsServer } = load("@vercel/cosmosdb-server");
const sql = createRequire(load.resolve("@vercel/cosmosdb-server"))("@zeit/cosmosdb-query").default;

const MAX_ITEM = 2 * 1024 * 1024;
const MAX_BATCH = 100;
const MAX_PAGE_BYTES = 4 * 1024 * 1024;

const containers = new Map(); // "db/container" -> {pkPath, policy, ttl, partitions: Map(pk -> Map(id -> item))}
const continuations = new Map();
const queries = new Map();
let writes = 0;
let control = fresh();

function fresh() {
  return { throttle: 0, retryAfterMs: 20, fail: 0, failStatus: 503, cutBefore: 0, cutAfter: 0, hang: 0, denied: null, account: {} };
}

const nameOf = (db, coll) => `${db}/${coll}`;
const respond = (status, body, headers = {}) => ({ status, body, headers });
const refusal = (status, code, message, sub) =>
  respond(status, { code, message }, sub === undefined ? {} : { "x-ms-substatus": String(sub) });

// ---- items ----------------------------------------------------------------------------------------------------------

function alive(container, partition, id) {
  const item = partition && partition.get(id);
  if (!item) return undefined;
  if (container.ttl !== undefined && item.ttl !== undefined && item._ts + item.ttl <= Date.now() / 1000) {
    partition.delete(id);
    return undefined;
  }
  return item;
}

function stamped(body) {
  writes += 1;
  const rid = Buffer.from(String(writes).padStart(12, "0")).toString("base64");
  return { ...body, _rid: rid, _self: `self/${rid}/`, _etag: `"${crypto.randomUUID()}"`, _ts: Math.floor(Date.now() / 1000) };
}

const sizeOf = (body) => Buffer.byteLength(JSON.stringify(body));

// One operation on a partition that may be thrown away. Returns {status, item}.
function apply(container, partition, pk, operation) {
  const { operationType, ifMatch, resourceBody } = operation;
  const id = operation.id ?? (resourceBody || {}).id;
  const found = alive(container, partition, id);
  if (operationType === "Create" && found) return { status: 409 };
  if (["Replace", "Delete", "Read"].includes(operationType) && !found) return { status: 404 };
  if (ifMatch !== undefined && found && found._etag !== ifMatch) return { status: 412 };
  if (operationType === "Read") return { status: 200, item: found };
  if (operationType === "Delete") {
    partition.delete(id);
    return { status: 204 };
  }
  if (!["Create", "Replace", "Upsert"].includes(operationType)) return { status: 400 };
  if (typeof id !== "string" || !id || id.length > 255 || /[/\\?#]/.test(id)) return { status: 400 };
  if (resourceBody[container.pkPath] !== pk || (operationType === "Replace" && resourceBody.id !== id)) return { status: 400 };
  if (sizeOf(resourceBody) > MAX_ITEM) return { status: 413 };
  const item = stamped(resourceBody);
  partition.set(id, item);
  return { status: found ? 200 : 201, item };
}

function batch(container, pk, operations) {
  if (operations.length > MAX_BATCH) return refusal(400, "BadRequest", "Batch request has more operations than what is supported");
  const partition = container.partitions.get(pk) || new Map();
  const changed = new Map(partition);
  const results = [];
  for (const operation of operations) {
    const { status, item } = apply(container, changed, pk, operation);
    results.push({ statusCode: status, requestCharge: 5, eTag: item && item._etag, resourceBody: item });
    if (status >= 400) {
      const failed = results.length - 1;
      const answers = operations.map((_, n) =>
        n === failed ? { statusCode: status, requestCharge: 1 } : { statusCode: 424, requestCharge: 0 });
      return respond(207, answers, charge(1));
    }
  }
  container.partitions.set(pk, changed);
  return respond(200, results, charge(5 * operations.length));
}

const charge = (units) => ({ "x-ms-request-charge": String(units) });

// ---- queries --------------------------------------------------------------------------------------------------------

function parsed(text) {
  if (!queries.has(text)) queries.set(text, sql(text));
  return queries.get(text);
}

// An order by one path needs that path, by several a composite index with them in this order, all forwards or all back.
function indexed(container, text) {
  const found = /ORDER BY (.*)$/.exec(text);
  if (!found) return true;
  const order = found[1].split(",").map((each) => /c\.(\w+)(?:\s+(ASC|DESC))?/.exec(each));
  if (order.length === 1) {
    return container.policy.includedPaths.some((each) => ["/*", `/${order[0][1]}/?`].includes(each.path));
  }
  return (container.policy.compositeIndexes || []).some((composite) => {
    if (composite.length !== order.length) return false;
    if (!composite.every((each, n) => each.path === `/${order[n][1]}`)) return false;
    const turned = composite.map((each, n) => (each.order === "descending") !== (order[n][2] === "DESC"));
    return new Set(turned).size === 1;
  });
}

function query(container, pk, body, headers) {
  let rows;
  const token = headers["x-ms-continuation"];
  if (token) {
    rows = continuations.get(token);
    if (!rows) return refusal(400, "BadRequest", "Invalid Continuation Token");
    continuations.delete(token);
  } else {
    if (!indexed(container, body.query)) {
      return refusal(400, "BadRequest", "The order by query does not have a corresponding index that it can be served from.");
    }
    const chosen = pk === undefined ? [...container.partitions.values()] : [container.partitions.get(pk) || new Map()];
    const items = [];
    for (const partition of chosen) {
      for (const id of [...partition.keys()]) {
        const item = alive(container, partition, id);
        if (item) items.push(item);
      }
    }
    try {
      rows = parsed(body.query).exec(items, { parameters: body.parameters }).result;
    } catch (error) {
      return refusal(400, "BadRequest", error.message);
    }
  }
  const most = Number(headers["x-ms-max-item-count"]) > 0 ? Number(headers["x-ms-max-item-count"]) : 100;
  const page = [];
  let bytes = 0;
  while (page.length < Math.min(most, rows.length)) {
    bytes += sizeOf(rows[page.length]);
    if (page.length && bytes > MAX_PAGE_BYTES) break;
    page.push(rows[page.length]);
  }
  const answer = { ...charge(2), "x-ms-item-count": String(page.length) };
  if (page.length < rows.length) {
    const next = crypto.randomUUID();
    continuations.set(next, rows.slice(page.length));
    answer["x-ms-continuation"] = next;
  }
  return respond(200, { _rid: "", Documents: page, _count: page.length }, answer);
}

function items(container, method, id, headers, body) {
  const given = headers["x-ms-documentdb-partitionkey"];
  const pk = given === undefined || given === "[{}]" ? undefined : JSON.parse(given)[0];
  if (method === "POST" && headers["x-ms-cosmos-is-batch-request"]) return batch(container, pk, body);
  if (method === "POST" && (headers["x-ms-documentdb-isquery"] || headers["content-type"] === "application/query+json")) {
    return query(container, pk, body, headers);
  }
  if (method === "GET" && id === undefined) return query(container, pk, { query: "SELECT * FROM c" }, headers);
  const upserts = headers["x-ms-documentdb-is-upsert"] === "True" || headers["x-ms-documentdb-is-upsert"] === "true";
  const operationType = { GET: "Read", DELETE: "Delete", PUT: "Replace", POST: upserts ? "Upsert" : "Create" }[method];
  const target = pk ?? (body || {})[container.pkPath];
  const partition = new Map(container.partitions.get(target) || []);
  const { status, item } = apply(container, partition, target, { operationType, id, ifMatch: headers["if-match"], resourceBody: body });
  if (status >= 400) {
    const codes = { 404: "NotFound", 409: "Conflict", 412: "PreconditionFailed", 413: "RequestEntityTooLarge", 400: "BadRequest" };
    return refusal(status, codes[status], `The operation was refused: ${codes[status]}`, 0);
  }
  container.partitions.set(target, partition);
  return respond(status, item, { ...charge(method === "GET" ? 1 : 5), ...(item ? { etag: item._etag } : {}) });
}

// ---- the server -----------------------------------------------------------------------------------------------------

function signed(method, path, headers) {
  if (!key) return true;
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  const type = parts.length % 2 ? parts[parts.length - 1] : parts[parts.length - 2] || "";
  const link = (parts.length % 2 ? parts.slice(0, -1) : parts).join("/");
  const text = [method.toLowerCase(), type, link, (headers["x-ms-date"] || "").toLowerCase(), "", ""].join("\n");
  const signature = crypto.createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
  return decodeURIComponent(headers.authorization || "") === `type=master&ver=1.0&sig=${signature}`;
}

function send(res, { status, body, headers }) {
  const data = body === undefined ? "" : JSON.stringify(body);
  res.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(data),
    "x-ms-activity-id": crypto.randomUUID(),
    ...headers,
  });
  res.end(data);
}

function read(req) {
  return new Promise((resolve, reject) => {
    const parts = [];
    req.on("data", (part) => parts.push(part));
    req.on("end", () => resolve(Buffer.concat(parts)));
    req.on("error", reject);
  });
}

// What the package's handler writes, seen on its way out: the containers that there are, and the account.
function overhear(req, res, path) {
  const end = res.end.bind(res);
  res.end = (data) => {
    const parts = path.split("/").filter(Boolean);
    const body = data ? JSON.parse(data) : {};
    if (!parts.length) return end(JSON.stringify({ ...body, ...control.account }));
    if (res.statusCode === 404 && parts[2] === "colls") res.setHeader("x-ms-substatus", "1003");
    if (res.statusCode < 300 && parts[2] === "colls") {
      const name = nameOf(parts[1], parts[3] || body.id);
      if (req.method === "DELETE") containers.delete(name);
      else if (body.partitionKey) {
        const known = containers.get(name) || { partitions: new Map() };
        known.pkPath = body.partitionKey.paths[0].slice(1);
        known.policy = { includedPaths: [{ path: "/*" }], ...body.indexingPolicy };
        known.ttl = body.defaultTtl;
        containers.set(name, known);
      }
    }
    return end(data);
  };
}

const server = createHttpsServer({ keepAlive: true });
const [inner] = server.listeners("request");
server.removeAllListeners("request");
server.keepAliveTimeout = 60000;

async function serve(req, res) {
  const path = req.url.split("?")[0].replace(/^\/\//, "/");
  if (path === "/__control") {
    const body = await read(req);
    if (req.method === "POST") control = { ...fresh(), ...JSON.parse(body) };
    return send(res, respond(200, control));
  }
  if (!signed(req.method, path, req.headers)) {
    req.resume();
    return send(res, refusal(401, "Unauthorized", "The input authorization token can't serve the request."));
  }
  const route = /^\/dbs\/([^/]+)\/colls\/([^/]+)\/docs(?:\/([^/]+))?\/?$/.exec(path);
  if (!route) {
    if (control.denied && control.denied === req.method && path !== "/") {
      req.resume();
      return send(res, refusal(403, "Forbidden", "Request is blocked", 5300));
    }
    overhear(req, res, path);
    return inner(req, res);
  }
  const body = await read(req);
  if (control.throttle > 0) {
    control.throttle -= 1;
    return send(res, respond(429, { code: "429", message: "Request rate is large" }, {
      "x-ms-retry-after-ms": String(control.retryAfterMs), "x-ms-substatus": "3200" }));
  }
  if (control.fail > 0) {
    control.fail -= 1;
    return send(res, refusal(control.failStatus, "ServiceUnavailable", "Service is currently unavailable."));
  }
  if (control.hang > 0) {
    control.hang -= 1;
    return undefined;
  }
  if (control.cutBefore > 0) {
    control.cutBefore -= 1;
    return req.socket.destroy();
  }
  const [, db, coll, id] = route;
  const container = containers.get(nameOf(decodeURIComponent(db), decodeURIComponent(coll)));
  if (!container) return send(res, refusal(404, "NotFound", "Owner resource does not exist", 1003));
  const answer = items(container, req.method, id && decodeURIComponent(id), req.headers, body.length ? JSON.parse(body) : undefined);
  if (control.cutAfter > 0 && req.method === "POST" && req.headers["x-ms-cosmos-is-batch-request"]) {
    control.cutAfter -= 1;
    return req.socket.destroy();
  }
  return send(res, answer);
}

server.on("request", (req, res) => {
  serve(req, res).catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    send(res, refusal(500, "InternalServerError", String(error)));
  });
});

server.listen(Number(port), "127.0.0.1", () => process.stdout.write("ready\n"));
