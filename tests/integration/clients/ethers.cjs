// ethers: its WebSocketProvider, with a subscriber of our own beside those for logs, as its own one for blocks passes
// on numbers only (see __init__.py).

const { SocketSubscriber, WebSocketProvider } = require("ethers");
const { fail, obey, say, sayHead, sayLog } = require("./lines.cjs");

const [url, address] = process.argv.slice(2);
const CHAIN_ID = 31337; // or a log that comes before it has asked for it would be an error

class Provider extends WebSocketProvider {
  ended = [];

  async send(method, params) {
    const result = await super.send(method, params);
    if (method === "eth_subscribe") say({ subscribed: result });
    if (method === "eth_unsubscribe" && this.ended.push(result) === 2) say({ ended: this.ended });
    return result;
  }

  // A log that is taken back is an event of another name, which has the log in it: nobody could listen for it.
  async emit(event, ...values) {
    if (values[0]?.removed) sayLogOf(values[0]);
    return super.emit(event, ...values);
  }
}

const sayLogOf = ({ blockHash, blockNumber, index, removed }) =>
  sayLog({ blockHash, blockNumber, logIndex: index, removed });

class Heads extends SocketSubscriber {
  async _emit(_, head) {
    sayHead(head);
  }
}

class Logs extends SocketSubscriber {
  async _emit(_, log) {
    sayLog(log);
  }
}

let provider, stop;

function connect() {
  provider = new Provider(url, CHAIN_ID);
  provider.on("error", fail);
  provider.websocket.onerror = (event) => fail(event.message);
  provider.websocket.onclose = (event) => fail(`closed: ${event.code} ${event.reason}`);
}

async function subscribe() {
  const heads = new Heads(provider, ["newHeads"]);
  heads.start();
  await provider.on({ address }, sayLogOf);
  stop = async () => {
    heads.stop();
    await provider.off({ address }, sayLogOf);
  };
}

async function resume(head, log) {
  connect();
  const both = [
    new Heads(provider, ["newHeads", { resume: head }]),
    new Logs(provider, ["logs", { address }, { resume: log }]),
  ];
  both.forEach((each) => each.start());
  stop = async () => both.forEach((each) => each.stop());
}

async function leave() {
  provider.websocket.onclose = () => say({ left: true });
  provider.websocket.close();
}

connect();
subscribe().catch(fail);
obey({ end: () => stop(), leave, resume });
