import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net';
import { createServer } from 'node:tls';
import { afterEach, expect, test } from 'vitest';
import { authorityExtensions, certificate, newKey, TestAuthority } from '../../test/support/authority.ts';
import { shownChains } from './look.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});
async function portOf(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
const looks = (port: number) =>
  shownChains(['site.example', 'www.site.example'], { host: '127.0.0.1', port });

test('it is the chain that the website shows, once, whoever certifies it', async () => {
  const [key, middle] = [newKey(), newKey()];
  const root = new TestAuthority('Root');
  const names: string[] = [];
  const leaf = certificate({ key, issuer: 'Middle', issuerKey: middle });
  const chain = leaf + root.issue({ key: middle, subject: 'Middle', extensions: authorityExtensions(0) });
  const server = createServer(
    {
      key: key.privateKey.export({ format: 'pem', type: 'pkcs8' }),
      cert: chain,
      SNICallback: (name, done) => {
        names.push(name);
        done(null);
      },
    },
    (socket) => void socket.on('error', () => {}),
  );
  expect(await looks(await portOf(server))).toEqual([chain]);
  expect(names.sort()).toEqual(['site.example', 'www.site.example']);
});

test('what shows none, says nothing or is not there is passed over, soon', async () => {
  const silent = createTcpServer((socket) => void socket.on('error', () => {}));
  const rude = createTcpServer((socket) => void socket.on('error', () => {}).end('HTTP/1.1 400 no\r\n\r\n'));
  const gone = createTcpServer();
  const port = await portOf(gone);
  gone.close();
  const started = performance.now();
  expect(await Promise.all([looks(await portOf(silent)), looks(await portOf(rude)), looks(port)])).toEqual([
    [],
    [],
    [],
  ]);
  expect(performance.now() - started).toBeLessThan(60_000);
});
