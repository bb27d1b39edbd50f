// BullMQ in Node, told what to do by lines of JSON on standard input: {"id", "op", …} is answered by {"id", "result"}
// or {"id", "error"}. Arguments: port of the Redis server, prefix.

const { createInterface } = require("node:readline");
const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");

const [port, prefix] = process.argv.slice(2);
const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };
const queues = new Map();
const workers = new Map();
const listeners = [];
const seen = [];
const events = [];

function queue(name) {
  if (!queues.has(name)) queues.set(name, new Queue(name, { connection, prefix }));
  return queues.get(name);
}

const plain = (job) => ({
  id: job.id,
  name: job.name,
  data: job.data,
  attemptsMade: job.attemptsMade,
  failedReason: job.failedReason,
  returnvalue: job.returnvalue,
  priority: job.priority,
  delay: job.delay,
  processedBy: job.processedBy,
  opts: job.opts,
});

const operations = {
  add: async ({ queue: name, name: job, data, opts }) => (await queue(name).add(job, data, opts)).id,
  flow: async ({ tree }) => (await new FlowProducer({ connection, prefix }).add(tree)).job.id,
  counts: ({ queue: name }) => queue(name).getJobCounts(),
  jobs: async ({ queue: name, state }) => (await queue(name).getJobs([state])).map(plain),
  job: async ({ queue: name, job }) => {
    const found = await queue(name).getJob(job);
    return found ? { ...plain(found), state: await found.getState() } : null;
  },
  retry: async ({ queue: name, job }) => (await queue(name).getJob(job)).retry("failed"),
  pause: ({ queue: name }) => queue(name).pause(),
  resume: ({ queue: name }) => queue(name).resume(),
  // `fail`: how many attempts fail first; `hold`: never finish.
  work: async ({ queue: name, fail = 0, hold = false, opts = {} }) => {
    let failures = fail;
    const worker = new Worker(
      name,
      async (job) => {
        seen.push({ ...plain(job), queue: name });
        if (hold) await new Promise(() => {});
        if (failures-- > 0) throw new Error(`failed in Node: ${job.id}`);
        return { by: "node" };
      },
      { connection, prefix, ...opts },
    );
    worker.on("error", () => {});
    workers.set(name, worker);
    await worker.waitUntilReady();
  },
  seen: () => seen,
  stop: ({ queue: name }) => workers.get(name).close(),
  listen: async ({ queue: name }) => {
    const listener = new QueueEvents(name, { connection, prefix, lastEventId: "0" });
    for (const event of ["waiting", "active", "completed", "failed", "delayed", "removed", "stalled"]) {
      listener.on(event, ({ jobId }) => events.push([event, jobId]));
    }
    listeners.push(listener);
    await listener.waitUntilReady();
  },
  events: () => events,
};

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, op, ...given } = JSON.parse(line);
  try {
    const result = await operations[op](given);
    process.stdout.write(`${JSON.stringify({ id, result: result ?? null })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ id, error: String(error) })}\n`);
  }
});
