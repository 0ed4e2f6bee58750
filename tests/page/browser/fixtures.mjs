// Servers and browsers that end with the file of tests that asked for them.

import { after } from "node:test";

import { Server, openBrowser } from "./harness.mjs";

const closing = [];

after(async () => {
  for (const close of closing.reverse()) await close();
});

export async function serve(...what) {
  const server = await Server.start(...what);
  closing.push(() => server.stop());
  return server;
}

export async function browse(...what) {
  const browser = await openBrowser(...what);
  closing.push(() => browser.close());
  return browser;
}
