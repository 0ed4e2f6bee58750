// A network between the page and the server that can be cut.

import { connect, createServer } from "node:net";

export class Network {
  static async to(port) {
    const network = new Network();
    network.pairs = new Set();
    network.cut = false;
    network.listening = createServer((socket) => network.join(socket, port));
    network.listening.listen(0, "127.0.0.1");
    await new Promise((resolve) => network.listening.once("listening", resolve));
    network.url = `http://127.0.0.1:${network.listening.address().port}/`;
    return network;
  }

  join(socket, port) {
    if (this.cut) {
      socket.destroy();
      return;
    }
    const other = connect(port, "127.0.0.1");
    const pair = [socket, other];
    this.pairs.add(pair);
    for (const [from, to] of [pair, [other, socket]]) {
      from.pipe(to);
      from.on("error", () => {});
      from.on("close", () => {
        to.destroy();
        this.pairs.delete(pair);
      });
    }
  }

  /** Every connection breaks, and there are no new ones. */
  break() {
    this.cut = true;
    for (const pair of this.pairs) for (const socket of pair) socket.destroy();
  }

  mend() {
    this.cut = false;
  }

  /** Nothing arrives any more, and nobody is told. */
  swallow() {
    for (const [one, other] of this.pairs) {
      one.unpipe(other).pause();
      other.unpipe(one).pause();
    }
  }

  deliver() {
    for (const [one, other] of this.pairs) {
      one.pipe(other);
      other.pipe(one);
    }
  }

  close() {
    this.break();
    this.listening.close();
  }
}
