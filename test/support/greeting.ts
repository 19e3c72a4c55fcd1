/**
 * The greeting app without a container: the files of its image, served by its own busybox, with evidence beside it as a node's front has
 * it. What the agent would say is said by a script in wget's place.
 */
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { layFiles, OWN_FILES } from '../../app-example/lay-files.ts';
import { createSimulatedPlatform } from '../../lib/attestation/simulated/platform.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { EVIDENCE_PATH, type SiteEvidence, sitePaths } from '../../lib/protocol/site-evidence.ts';
import type { AcmeStatus } from '../../lib/protocol/sockets.ts';
import { forgeSite, nonceIn, type SiteScene } from './forge-site.ts';
import { freePort } from './free-port.ts';
import { eventually } from './network.ts';

export const SECRET = new Uint8Array(32).fill(9);
const PPID = new Uint8Array(16).fill(3);
export const SCENE: SiteScene = {
  domain: { chainId: 31_337, contract: parseAddress(`0x${'c0'.repeat(20)}`) },
  networkJson: '{"a network":"of a test"}',
  ppid: PPID,
  block: { number: 77, hash: `0x${'b7'.repeat(32)}` },
};
export const PLATFORM_ID = createSimulatedPlatform({ ppid: PPID }).platformId;

/** Of a node that has not looked at the DNS yet. */
export const STATUS: AcmeStatus = {
  state: 'brought',
  hostImpersonable: true,
  caa: { code: 'CAA_UNKNOWN', reason: 'the DNS has not been looked at yet' },
};

export interface Greeting {
  readonly url: string;
  /** Where its data disk is. */
  readonly data: string;
  /** So many of the next visitors' scripts get SIGKILL at the moment at which they count: before the number is changed, or after it. */
  endNext(before: number, after: number): void;
  /** What becomes of evidence on its way; a status in its place. */
  alter: (evidence: SiteEvidence) => unknown;
  /** What the node says of its certificate, as JSON. */
  status: unknown;
  /** What the agent says to `/info`. */
  say(info: string): void;
  stop(): Promise<void>;
}

export async function startGreeting(version = '7'): Promise<Greeting> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-greeting-'));
  const [root, data, bin] = ['root', 'data', 'bin'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [root, data, bin]) mkdirSync(path);
  layFiles(root, OWN_FILES, version);
  writeFileSync(join(data, 'note.txt'), 'The greeting app was here first\n');
  writeFileSync(join(folder, 'info'), '{"app":"greeting","epoch":1}');
  const agent = `#!/bin/sh\nfor url; do :; done\ncase $url in */info) cat '${folder}/info' ;; */getkey/greeting) echo ${'ab'.repeat(32)} ;; *) exit 1 ;; esac\n`;
  writeFileSync(join(bin, 'wget'), agent);
  for (const when of ['before', 'after']) mkdirSync(join(folder, when));
  const busybox = join(root, 'bin/busybox');
  const oneOf = (when: string) =>
    `for one in '${folder}/${when}'/*; do ${busybox} rmdir "$one" 2>/dev/null && kill -9 $PPID && break; done`;
  const mv = `#!/bin/sh\n${oneOf('before')} && exit 1\n${busybox} mv "$@" || exit\n${oneOf('after')}\ntrue\n`;
  writeFileSync(join(bin, 'mv'), mv);
  for (const name of ['wget', 'mv']) chmodSync(join(bin, name), 0o755);
  const port = await freePort();
  const httpd = spawn(busybox, ['httpd', '-f', '-p', `127.0.0.1:${port}`, '-h', join(root, 'app/www')], {
    // What the image has not, the script shall miss.
    env: { PATH: `${bin}:${join(root, 'bin')}`, DATA: data },
    stdio: 'ignore',
  });
  await eventually(async () => (await fetch(`http://127.0.0.1:${port}/healthz`)).ok, 'busybox to serve');

  const greeting = {
    data,
    endNext(before: number, after: number): void {
      for (const [when, count] of Object.entries({ before, after }))
        for (let nth = 0; nth < count; nth += 1) mkdirSync(join(folder, when, String(nth)));
    },
    alter: (evidence: SiteEvidence): unknown => evidence,
    status: STATUS as unknown,
    say: (info: string) => writeFileSync(join(folder, 'info'), info),
  };
  const front = createServer((asked, reply) => {
    const target = asked.url ?? '/';
    if (target.startsWith(EVIDENCE_PATH)) {
      const nonce = Buffer.from(nonceIn(target), 'hex');
      const answer = greeting.alter(forgeSite(SCENE, SECRET, nonce));
      if (typeof answer === 'number') reply.writeHead(answer).end('{}');
      else reply.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
      return;
    }
    if (target === sitePaths.status) {
      reply.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(greeting.status));
      return;
    }
    const passed = request({ host: '127.0.0.1', port, path: target, method: asked.method }, (from) => {
      reply.writeHead(from.statusCode ?? 502, from.headers);
      from.pipe(reply);
    });
    passed.on('error', () => reply.destroy());
    asked.pipe(passed);
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  return Object.assign(greeting, {
    url: `http://127.0.0.1:${(front.address() as AddressInfo).port}/`,
    async stop() {
      front.closeAllConnections();
      await new Promise((resolve) => front.close(resolve));
      httpd.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  });
}
