// What the clients in JavaScript share: lines of JSON out, lines of words in (see __init__.py).

const readline = require("node:readline");

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const fail = (error) => say({ failed: String((error && error.stack) || error) });

exports.say = say;
exports.fail = fail;

exports.sayHead = ({ hash, number, parentHash }) => say({ head: { hash, number: Number(number), parentHash } });

exports.sayLog = ({ blockHash, blockNumber, logIndex, removed }) =>
  say({ log: { blockHash, blockNumber: Number(blockNumber), logIndex: Number(logIndex), removed } });

// Do what stdin says, one thing after the other.
exports.obey = async (actions) => {
  process.on("unhandledRejection", fail);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [word, ...rest] = line.split(" ");
    await actions[word](...rest).catch(fail);
  }
  process.exit(0);
};
