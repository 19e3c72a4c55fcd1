/**
 * An app in one file: a website whose every page is signed, with a key that the app never sees. Its manifest needs `api: ["info", "sign"]` and
 * `http: {"port": 8080}`.
 *
 *     node example.ts [PORT [SOCKET]]
 */
import { createServer } from 'node:http';
import { agent } from './agent.ts';

const [port = '8080', socket] = process.argv.slice(2);
const node = agent(socket === undefined ? {} : { socket });
const { app, network } = await node.info();

createServer(async (visitor, response) => {
  // Of the visitor's request nothing reaches the agent but what is signed, and what that says is for the app to decide.
  const page = `${app} of network ${network.contract} says hello to ${visitor.url}`;
  try {
    const data = Buffer.from(page).toString('hex');
    const signed = await node.sign({ tag: 'pages', algorithm: 'ed25519', data, purpose: 'pages' });
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ page, ...signed }));
  } catch (error) {
    response.statusCode = 503;
    response.end(`not signed: ${(error as Error).message}`);
  }
}).listen(Number(port));
