/**
 * What lies in the folder of a node beside its records: its key and the token of its API, for its owner alone; the secret of a private network; the
 * peers that it dials again; and, while it runs, where it listens.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { readBounded } from '../../../lib/daemon/bounded-file.ts';
import { writeDurably } from '../../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../../lib/daemon/folder.ts';
import { makePrivate, readPrivate } from '../../../lib/daemon/private-file.ts';
import { type KeyPair, keyPairOf } from '../../../lib/noise/x25519.ts';
import { fromHex, toHex } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { Count, check, HexOf, parseJson, Strict } from '../../../lib/protocol/schema.ts';
import { createRecords, LOG_FILE } from '../folder.ts';
import { requireAddress } from '../wire/address.ts';
import { parseGenesis } from './genesis-file.ts';

const IDENTITY_FILE = 'identity';
const TOKEN_FILE = 'authtoken';
const SECRET_FILE = 'secret';
const PEERS_FILE = 'peers.json';
const RUNNING_FILE = 'running.json';
const MAX_FILE_BYTES = 65_536;
/** What a node dials, it dials for ever. */
export const MOST_PEERS = 64;

/** An address without anything that a resolver or a log could take for something else. */
export const HostName = Type.String({
  pattern: '^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$|^[0-9A-Fa-f:.]+$',
  maxLength: 253,
  description: 'a host name or an address',
});
export const PeerAddress = Strict({
  host: HostName,
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  /** Its static key: who answers there must have it. */
  key: HexOf(32),
});
export type PeerAddress = Static<typeof PeerAddress>;

const PeersFile = Strict({
  version: Type.Literal(1),
  peers: Type.Array(PeerAddress, { maxItems: MOST_PEERS }),
});
const RunningFile = Strict({
  pid: Count,
  network: HexOf(32),
  /** The base URL of its API, for programs of this machine. */
  url: Type.String({ pattern: '^http://[^/]+$', maxLength: 300 }),
});
export type RunningFile = Static<typeof RunningFile>;

/** File systems of other machines (statfs(2)): what is synced there may not be on a disk, and two nodes may hold one folder. */
const SHARES: Readonly<Record<number, string>> = {
  26985: 'NFS',
  20859: 'SMB',
  4283649346: 'CIFS',
  4266872130: 'SMB2',
  1397113167: 'AFS',
  12805120: 'Ceph',
};

/**
 * Makes the folder of a node of this network.
 * @param genesis what `makeGenesis` gives, or a genesis record
 * @param secret of a private network, 32 bytes
 * @throws RECORDS_GENESIS, RECORDS_EXISTS, RECORDS_SECRET
 */
export function createHome(folder: string, genesis: Uint8Array, secret?: Uint8Array): void {
  const { records } = parseGenesis(genesis);
  makeFolder(folder, 0o700);
  // First: a node of a private network must not begin as one of a public one.
  if (secret !== undefined && !makePrivate(join(folder, SECRET_FILE), toHex(secret)))
    requireSameSecret(folder, secret);
  createRecords(folder, records[0]!);
}

export const hasRecords = (folder: string): boolean => existsSync(join(folder, LOG_FILE));

/** @throws RECORDS_SECRET */
export function requireSameSecret(folder: string, secret: Uint8Array): void {
  const own = secretOf(folder);
  if (own !== undefined && toHex(own) === toHex(secret)) return;
  throw new DstackError(
    'RECORDS_SECRET',
    `the node in ${folder} is of a network with ${own === undefined ? 'no' : 'another'} secret; use another folder`,
  );
}

/** @param type of its file system, as statfs(2) has it. @throws RECORDS_SHARE */
export function requireOwnDisk(folder: string, type = Number(statfsSync(folder).type)): void {
  const share = SHARES[type >>> 0];
  if (share === undefined) return;
  throw new DstackError(
    'RECORDS_SHARE',
    `${folder} is on another machine (${share}); keep records on a disk of this one`,
  );
}

/** This node's static key, made at the first call. @throws KEY_FILE */
export function identityOf(folder: string): KeyPair {
  const path = join(folder, IDENTITY_FILE);
  if (!existsSync(path)) makePrivate(path, toHex(randomBytes(32)));
  return keyPairOf(keyIn(path));
}

/** What those know who may tell this node what to do, made at the first call. @throws KEY_FILE */
export function tokenOf(folder: string): string {
  const path = join(folder, TOKEN_FILE);
  if (!existsSync(path)) makePrivate(path, toHex(randomBytes(32)));
  return toHex(keyIn(path));
}

/** Undefined in a public network. @throws KEY_FILE */
export function secretOf(folder: string): Uint8Array | undefined {
  const path = join(folder, SECRET_FILE);
  return existsSync(path) ? keyIn(path) : undefined;
}

/** 32 bytes of hex in a file of this user's alone. @throws KEY_FILE */
export function keyIn(path: string): Uint8Array {
  try {
    return fromHex(readPrivate(path).trim(), 32);
  } catch (cause) {
    if (!(cause instanceof DstackError) || cause.code === 'KEY_FILE') throw cause;
    throw new DstackError('KEY_FILE', `${path} has no 32 bytes of hex; put back what it was`, { cause });
  }
}

/** @throws RECORDS_PEERS */
export function peersOf(folder: string): PeerAddress[] {
  const path = join(folder, PEERS_FILE);
  if (!existsSync(path)) return [];
  const text = readFileSync(path, 'utf8');
  const where = `${path} (remove it, and connect again)`;
  const { peers } = parseJson(PeersFile, text, 'RECORDS_PEERS', where, MAX_FILE_BYTES);
  try {
    for (const peer of peers) requireAddress(peer, 1);
  } catch (cause) {
    throw new DstackError('RECORDS_PEERS', `${where} has a wrong address: ${(cause as Error).message}`, {
      cause,
    });
  }
  return peers;
}

/** Adds a peer, or its new address. @throws WIRE_ADDRESS; RECORDS_PEERS where there are as many as there may be */
export function keepPeer(folder: string, peer: PeerAddress): void {
  // The node would not start any more with one that can't be dialled.
  requireAddress(peer, 1);
  const others = peersOf(folder).filter(({ key }) => key !== peer.key);
  if (others.length >= MOST_PEERS) {
    throw new DstackError(
      'RECORDS_PEERS',
      `this node dials ${MOST_PEERS} peers already; take some out of ${PEERS_FILE}`,
    );
  }
  const peers = [...others, check(PeerAddress, peer, 'RECORDS_PEERS', 'the peer')];
  writeDurably(join(folder, PEERS_FILE), `${JSON.stringify({ version: 1, peers }, null, 2)}\n`, 0o600);
}

export function noteRunning(folder: string, running: RunningFile): void {
  writeDurably(join(folder, RUNNING_FILE), `${JSON.stringify(running)}\n`, 0o600);
}

export function forgetRunning(folder: string): void {
  rmSync(join(folder, RUNNING_FILE), { force: true });
}

/**
 * Where the node in this folder listens, if it runs. It may be gone without a word: whoever listens there now, perhaps another user of this machine, must
 * not get the token.
 */
export function runningOf(folder: string): RunningFile | undefined {
  const path = join(folder, RUNNING_FILE);
  if (!existsSync(path)) return undefined;
  const text = readBounded(path, { maxBytes: MAX_FILE_BYTES }).toString('utf8');
  const running = parseJson(RunningFile, text, 'RECORDS_RUNNING', `${path} (remove it)`, MAX_FILE_BYTES);
  return isAlive(running.pid) ? running : undefined;
}

/** As a process of this user's. */
function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
}
