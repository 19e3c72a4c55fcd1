/**
 * The acme daemon: orders the website's certificate and renews it, or takes one that was brought. `--root DIR` puts every path
 * below DIR, for tests without a VM.
 */
import { Resolver } from 'node:dns/promises';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import type { Static, TSchema } from 'typebox';
import { groupId } from '../../lib/daemon/groups.ts';
import { readImageInfo } from '../../lib/daemon/image-info.ts';
import { callUnix, serveUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseNetworkConfig, type SiteConfig } from '../../lib/protocol/network-config.ts';
import { Strict } from '../../lib/protocol/schema.ts';
import {
  AcmeAccountKeyReply,
  type AcmeSite,
  DiskStatusReply,
  JoinedReply,
  SiteRequestReply,
  sockets,
} from '../../lib/protocol/sockets.ts';
import { parseRoots } from '../../lib/site/certificate-rule.ts';
import { groupOfSocket } from '../daemons.ts';
import { type AccountKey, accountKey } from './account-key.ts';
import { alpnCertificate } from './alpn-certificate.ts';
import { type Account, openAccount, orderCertificate } from './authority.ts';
import { type CaaVerdict, CaaWatch } from './caa.ts';
import { Desk } from './desk.ts';
import { Holder } from './holder.ts';
import { shownChains } from './look.ts';
import { Memory } from './memory.ts';
import { Orders } from './orders.ts';
import { requireRecords } from './persist-record.ts';
import { Renewals } from './renewal-info.ts';

const { values: flags } = parseArgs({
  options: { root: { type: 'string', default: '/' }, resolver: { type: 'string' } },
});
const log = pino({ name: 'acme' });
const at = (path: string): string => join(flags.root, path);
const FOR_EVER = 24 * 3600 * 1000;
/** See `firstWithin` of network.json. Seconds. */
const FIRST_WITHIN = 600;
/** Between two looks at the clock. Milliseconds. */
const LOOK_EVERY = 2_000;
/** How often the disk is asked, at most, whether it is open: once a second. */
const DISK_LOOKS = 120;

await main();

async function main(): Promise<void> {
  const { flavour } = readImageInfo(flags.root);
  const { site } = parseNetworkConfig(readFileSync(at('run/dstack/network.json')), flavour);
  if (site === undefined) {
    log.info('network.json names no website: nothing to certify');
    return;
  }
  // Held back by the replicator until the node has joined.
  const account = await ask('/v1/acme-account-key', AcmeAccountKeyReply);
  const { request, publicKey } = await ask('/v1/site-request', SiteRequestReply);
  await serve(site, {
    key: accountKey(fromHex(account.privateKey, 32)),
    request: fromHex(request),
    publicKey: fromHex(publicKey),
  });
}

interface Keys {
  key: AccountKey;
  /** PKCS #10, DER. */
  request: Uint8Array;
  /** SubjectPublicKeyInfo, DER. */
  publicKey: Uint8Array;
}

async function serve(site: SiteConfig, keys: Keys): Promise<void> {
  const { domains, acme } = site;
  const roots = trusted(site);
  await diskOpened();
  const memory = new Memory(
    // Where the data disk is mounted, disk has made the folder; the other one outlives this process only.
    [at('mnt/encrypted_data/acme'), at('var/lib/dstack/acme')],
    (problem) => log.warn({ problem }, 'what was remembered cannot be read'),
  );
  const holder = new Holder({
    publicKey: keys.publicKey,
    names: domains,
    roots: parseRoots(roots.join('')),
    taken: (certificate) => orders.taken(certificate),
  });
  const resolver = new Resolver({ timeout: 3_000, tries: 2 });
  if (flags.resolver !== undefined) resolver.setServers([flags.resolver]);
  const renewals =
    acme &&
    new Renewals({
      directory: acme.directory,
      roots,
      problem: (error) => log.info({ code: codeOf(error) }, 'the authority proposed no time of renewal'),
    });
  let lastNow = 0;
  const now = async () => {
    lastNow = (await ask('/v1/status', JoinedReply, 10_000)).reached.now;
    return lastNow;
  };
  const desk = new Desk({
    site: () => describe(),
    take: async (chain) => void holder.take(chain, await now()),
    alpnCertificate,
  });
  const orders = new Orders({
    names: domains,
    memory,
    holder,
    now,
    firstWithin: acme?.firstWithin ?? FIRST_WITHIN,
    directory: acme?.directory ?? '',
    account: () => openAccount({ ...acme!, ...keys, roots }),
    ready: async (known) => {
      // The first one is used wherever the authority offers it.
      if (acme?.challenges[0] === 'dns-persist-01') await requireRecords(domains, known, resolver);
    },
    order: (before) =>
      orderCertificate({
        ...acme!,
        ...keys,
        names: domains,
        roots,
        show: (challenge) => desk.show(challenge),
        before,
      }),
    look: () => shownChains(domains),
    proposed: async (certificate) => renewals?.proposed(certificate),
    log,
  });
  const caa = new CaaWatch({
    domains,
    resolvers: site.resolvers ?? [],
    roots,
    tell: (hostImpersonable) => tell('/v1/site-caa', { hostImpersonable }),
  });
  const describe = (): Omit<AcmeSite, 'alpn'> => {
    const present = holder.present(lastNow);
    return {
      ...(present !== undefined && { chain: present.chain }),
      csr: Buffer.from(keys.request).toString('base64'),
      ...(acme?.challenges.includes('http-01') && { thumbprint: keys.key.thumbprint }),
      status: {
        ...(acme === undefined ? { state: 'brought' as const } : orders.status),
        ...caaStatus(caa.verdict),
        ...policyOf(site, orders.account),
        ...(present !== undefined && { serial: present.serial, notAfter: present.notAfter }),
      },
    };
  };
  await restore(memory, holder, now);
  mkdirSync(at('run/dstack/acme'), { recursive: true });
  await serveUnix({
    path: at(join('run/dstack', sockets.acmeForTls)),
    routes: desk.routes(),
    gid: groupId(flags.root, groupOfSocket(sockets.acmeForTls)!),
  });
  log.info({ domains, directory: acme?.directory }, 'cares for the certificate of the website');
  void follow(() => caa.look(policyOf(site, orders.account)));
  await follow(acme === undefined ? now : () => orders.step());
}

/** What the DNS has to say; undefined while the account is not known, or where the guest orders none. */
function policyOf({ acme }: SiteConfig, account: Account | undefined) {
  if (acme === undefined || account === undefined) return undefined;
  return { account: account.url, issuers: acme.issuers ?? account.issuers, methods: acme.challenges };
}

function caaStatus({ hostImpersonable, code, reason = '' }: CaaVerdict) {
  return { hostImpersonable, ...(code !== undefined && { caa: { code, reason } }) };
}

/** What is remembered may be on the data disk, which is opened at the same time as this starts. */
async function diskOpened(): Promise<void> {
  const path = at(join('run/dstack', sockets.diskStatus));
  const opening = async () => {
    const call = {
      path,
      method: 'GET',
      route: '/v1/status',
      reply: DiskStatusReply,
      timeout: 5_000,
    } as const;
    return (await callUnix(call).catch(() => undefined))?.state === 'opening';
  };
  for (let looks = 0; looks < DISK_LOOKS && (await opening()); looks++)
    await new Promise((resolve) => setTimeout(resolve, 1_000));
}

/** The certificate of before the restart, if it still fits. */
async function restore(memory: Memory, holder: Holder, now: () => Promise<number>): Promise<void> {
  const { chain } = memory.value;
  if (chain === undefined) return;
  try {
    holder.take(chain, await now());
  } catch (error) {
    log.info({ code: codeOf(error) }, 'the certificate of before does not fit any more');
  }
}

/** For ever; what goes wrong is said once. */
async function follow(step: () => Promise<unknown>): Promise<never> {
  let said = '';
  for (;;) {
    try {
      await step();
      said = '';
    } catch (error) {
      if (said !== codeOf(error)) log.warn({ code: codeOf(error), err: error }, 'cannot go on yet');
      said = codeOf(error);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
  }
}

/** The image's roots, and in sim and dev those of network.json; PEM. */
function trusted({ roots = [] }: SiteConfig): string[] {
  const bundle = at('etc/ssl/certs/ca-certificates.crt');
  return [
    ...(existsSync(bundle) ? [readFileSync(bundle, 'utf8')] : []),
    ...roots.map((root) => `${root.trim()}\n`),
  ];
}

/** @param timeout of the answer, milliseconds; without one it is waited for, since the node may have to join first */
function ask<T extends TSchema>(route: string, reply: T, timeout?: number): Promise<Static<T>> {
  return callUnix({
    path: at(join('run/dstack', sockets.replicatorForAcme)),
    method: 'GET',
    route,
    reply,
    connectWithin: timeout ?? FOR_EVER,
    ...(timeout !== undefined && { timeout }),
  });
}

async function tell(route: string, body: object): Promise<void> {
  const path = at(join('run/dstack', sockets.replicatorForAcme));
  await callUnix({ path, method: 'POST', route, body, reply: Strict({}), timeout: 10_000 });
}
