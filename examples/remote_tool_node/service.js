// A remote tool in Node: `npm install && BROKERS=127.0.0.1:9092 npm start`.

import { Kafka, logLevel } from "kafkajs";

const TOOL = "slugify";
const PREFIX = process.env.TOPIC_PREFIX ?? ""; // Headrace's setting `topic_prefix`.
const brokers = (process.env.BROKERS ?? "127.0.0.1:9092").split(",");

const kafka = new Kafka({ clientId: TOOL, brokers, logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: PREFIX + TOOL });
const producer = kafka.producer({ idempotent: true });

// The model may write anything into its arguments: nothing of it may end the service.
function slugify({ title }) {
  if (typeof title !== "string") throw new TypeError(`expected \`title\` as text, got ${JSON.stringify(title)}`);
  const plain = title.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  return plain.replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
}

// The same call has the same answer, so one that is delivered twice may be answered twice: the first answer counts.
function answerTo(call) {
  try {
    return { content: slugify(call.input) };
  } catch (error) {
    return { error: { message: error.message, retryable: false } };
  }
}

async function take({ message }) {
  const call = JSON.parse(message.value.toString());
  const isOver = Number(message.timestamp) + call.timeout_ms < Date.now(); // Nobody waits any more.
  if (call.tool !== TOOL || isOver) return;
  const { session_id, call_id } = call;
  const value = JSON.stringify({ session_id, call_id, ...answerTo(call) });
  await producer.send({ topic: `${PREFIX}tool-results`, messages: [{ key: session_id, value }] });
  console.log(value);
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    await consumer.disconnect(); // Commits what was answered.
    await producer.disconnect();
  });
}
await producer.connect();
await consumer.connect();
await consumer.subscribe({ topic: `${PREFIX}tool-calls`, fromBeginning: true });
await consumer.run({ eachMessage: take });
