// viem: its webSocket transport; logs by watchEvent, heads by the transport's own subscription, as watchBlocks asks for
// the newest block at each event and so does not show them all (see __init__.py).

const { createPublicClient, webSocket } = require("viem");
const { fail, obey, say, sayHead, sayLog } = require("./lines.cjs");

const [url, address] = process.argv.slice(2);
const PING_MS = 500; // its pings are calls whose id is null

let client, stop;

function connect() {
  const transport = webSocket(url, { reconnect: false, keepAlive: { interval: PING_MS } });
  client = createPublicClient({ transport });
}

async function hold(params, take) {
  const onData = ({ result }) => take(result);
  const subscription = await client.transport.subscribe({ params, onData, onError: fail });
  say({ subscribed: subscription.subscriptionId });
  return subscription;
}

const unsubscribed = async (subscription) => (await subscription.unsubscribe()).result;

async function subscribe() {
  const heads = await hold(["newHeads"], sayHead);
  const unwatch = client.watchEvent({ address, onLogs: (logs) => logs.forEach(sayLog), onError: fail });
  stop = async () => {
    unwatch();
    say({ ended: [await unsubscribed(heads)] });
  };
}

async function resume(head, log) {
  connect();
  const heads = await hold(["newHeads", { resume: head }], sayHead);
  const logs = await hold(["logs", { address }, { resume: log }], sayLog);
  stop = async () => say({ ended: [await unsubscribed(heads), await unsubscribed(logs)] });
}

async function leave() {
  const rpc = await client.transport.getRpcClient();
  rpc.subscriptions.clear(); // or each would be told of an error
  rpc.socket.addEventListener("close", () => say({ left: true }));
  rpc.close();
}

connect();
subscribe().catch(fail);
obey({ end: () => stop(), leave, resume });
