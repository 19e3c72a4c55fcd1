/**
 * Brings what a rollout needs from other relays to this host's volume: the manifests that the contract names, now and next, the
 * envelopes of their secrets and the archives of their images. So an operator has nothing to copy, and a new node finds all that it is to run.
 *
 * It comes over HTTP, or by records (files-by-records.ts), from whoever has it. Peers are not trusted: whatever comes is bounded in size and time, written beside its place, checked by its hash as the guest
 * checks it, and only then put there. What was cut off goes on later, at the same peer. A peer whose bytes are not what they
 * should be is left alone for an hour.
 */
import { open, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { checkedLayer, findImage, ImageRefused } from '../../lib/archives/archive.ts';
import { Room } from '../../lib/archives/layer.ts';
import type { Log } from '../../lib/daemon/log.ts';
import type { Metrics } from '../../lib/daemon/metrics.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { bareHex } from '../../lib/protocol/hex.ts';
import {
  type Manifest,
  manifestHash,
  parseManifest,
  plansOf,
  secretsOf,
} from '../../lib/protocol/manifest.ts';
import type { AppView } from '../../lib/protocol/network-contract.ts';
import type { AskablePeer } from '../gossip/carrier.ts';
import { httpStream } from '../http-json.ts';
import { APP_FILE_MAX_BYTES, type AppFileKind, type AppFiles, tagFile } from './app-files.ts';
import { Lie } from './asked-parts.ts';
import { bringByRecords, RECORDS_MARK } from './files-by-records.ts';

export interface AppCourierOptions {
  files: AppFiles;
  /** Base URLs of relays. */
  peers: readonly string[];
  /** Relays that are connected by records now; absent: there never are any. */
  askable?(): readonly AskablePeer[];
  /** What the contract says now. */
  apps(): Promise<readonly AppView[]>;
  metrics: Pick<Metrics, 'count'>;
  log: Log<'info' | 'warn'>;
  /** Milliseconds between looks. */
  interval?: number;
  bounds?: Partial<CourierBounds>;
}

export interface CourierBounds {
  /** Milliseconds without a byte after which a peer is given up for now. */
  stalledAfter: number;
  /** Milliseconds that one file may take, from one peer, at one look. */
  within: number;
  /** Milliseconds for which a peer is left alone that sent something else. */
  leftFor: number;
  /** Bytes that a file leaves free on the volume. */
  spare: number;
}

const INTERVAL = 5_000;
const BOUNDS: CourierBounds = {
  stalledAfter: 30_000,
  within: 1_800_000,
  leftFor: 3_600_000,
  spare: 256 * 1024 * 1024,
};
/** What is not there is asked for again after so long, and after twice as long each time. Milliseconds. */
const AGAIN_MIN = 5_000;
const AGAIN_MAX = 300_000;
/** Unpacking is the guest's business. */
const ANY_SIZE = Number.MAX_SAFE_INTEGER;

export class AppCourier {
  readonly #options: AppCourierOptions;
  readonly #bounds: CourierBounds;
  readonly #ending = new AbortController();
  /** Until when a peer is left alone. */
  readonly #left = new Map<string, number>();
  /** When one last failed: it is asked after those that did not, or it could hold up every file for as long as one may take. */
  readonly #failed = new Map<string, number>();
  readonly #waits = new Map<string, { until: number; pause: number }>();
  #loop: Promise<void> | undefined;

  constructor(options: AppCourierOptions) {
    this.#options = options;
    this.#bounds = { ...BOUNDS, ...options.bounds };
  }

  start(): void {
    if (this.#options.peers.length > 0 || this.#options.askable !== undefined) this.#loop ??= this.#forever();
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#loop;
  }

  /** One look at what the contract names, and at what is missing of it. Never fails. */
  async look(): Promise<void> {
    try {
      const hashes = named(await this.#options.apps());
      const manifests: Manifest[] = [];
      for (const hash of hashes) {
        const manifest = await this.#manifest(hash);
        if (manifest !== undefined) manifests.push(manifest);
      }
      const images = new Set(manifests.flatMap((one) => plansOf(one).map(({ image }) => image)));
      const envelopes = new Set(manifests.flatMap((one) => secretsOf(one).map(({ envelope }) => envelope)));
      // Before archives are brought, which may need the room.
      await this.#removeUnneeded('manifests', new Set(hashes));
      // What a manifest that is missing names is not known.
      if (manifests.length === hashes.length) {
        await this.#removeUnneeded('archives', images);
        await this.#removeUnneeded('secrets', envelopes);
      }
      for (const envelope of envelopes) await this.#bring('secrets', envelope, checkEnvelope);
      for (const image of images) await this.#bring('archives', image, checkArchive);
    } catch (error) {
      if (!this.#ending.signal.aborted)
        this.#options.log.warn(
          { code: codeOf(error) },
          `apps are not looked for: ${(error as Error).message}`,
        );
    }
  }

  async #forever(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      await this.look();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, this.#options.interval ?? INTERVAL);
        signal.addEventListener('abort', () => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** The manifest, once it is there. One that the operator put there and is something else is for the guest to refuse. */
  async #manifest(hash: string): Promise<Manifest | undefined> {
    if (!(await this.#bring('manifests', hash, checkManifest))) return undefined;
    const found = await this.#options.files.open('manifests', hash);
    if (found === undefined) return undefined;
    try {
      const bytes = await found.file.readFile();
      return toHex(manifestHash(bytes)) === hash ? parseManifest(bytes) : undefined;
    } catch {
      return undefined;
    } finally {
      await found.file.close();
    }
  }

  /** Whether the file is there now. */
  async #bring(kind: AppFileKind, hash: string, check: Check): Promise<boolean> {
    const { files, peers, log, metrics } = this.#options;
    if (await files.has(kind, hash)) return true;
    const wait = this.#waits.get(hash);
    if (wait !== undefined && wait.until > performance.now()) return false;
    const failedAt = (peer: string) => this.#failed.get(peer) ?? 0;
    const askable = this.#options.askable?.() ?? [];
    const all = [...peers, ...askable.map(({ peer }) => peer)];
    for (const peer of all.sort((a, b) => failedAt(a) - failedAt(b))) {
      if (this.#ending.signal.aborted) return false;
      if ((this.#left.get(peer) ?? 0) > performance.now()) continue;
      try {
        const byRecords = askable.find((one) => one.peer === peer);
        const isThere =
          byRecords === undefined
            ? await this.#fetch(kind, hash, peer, check)
            : await this.#ask(kind, hash, byRecords, check);
        if (!isThere) continue;
        this.#waits.delete(hash);
        this.#failed.delete(peer);
        metrics.count('dstack_relay_app_files_total', 'Files of apps asked of peers.', { outcome: 'taken' });
        log.info({ peer, kind, hash }, `took ${kind}/${hash} from a peer`);
        return true;
      } catch (error) {
        if (this.#ending.signal.aborted) return false;
        const code = codeOf(error);
        metrics.count('dstack_relay_app_files_total', 'Files of apps asked of peers.', { outcome: code });
        log.warn({ peer, kind, hash, code }, `${kind}/${hash} is not taken: ${(error as Error).message}`);
        this.#failed.set(peer, performance.now());
        if (error instanceof Lie) this.#left.set(peer, performance.now() + this.#bounds.leftFor);
        if (error instanceof ImageRefused) {
          // Nobody has a better one.
          const until = performance.now() + this.#bounds.leftFor;
          this.#waits.set(hash, { until, pause: AGAIN_MAX });
          return false;
        }
      }
    }
    const pause = Math.min(AGAIN_MAX, wait === undefined ? AGAIN_MIN : 2 * wait.pause);
    this.#waits.set(hash, { until: performance.now() + pause, pause });
    return false;
  }

  /** False when the peer does not have it. */
  async #fetch(kind: AppFileKind, hash: string, peer: string, check: Check): Promise<boolean> {
    const { files } = this.#options;
    // By its peer, so that it is clear whose bytes they are.
    const mark = toHex(sha256(utf8(peer))).slice(0, 16);
    const draft = await files.draft(kind, hash, mark);
    const begins = () => this.#removeDrafts(kind, hash, draft);
    const url = `${peer}/v1/${kind}/${hash}`;
    if (!(await this.#download(url, draft, APP_FILE_MAX_BYTES[kind], begins))) return false;
    try {
      await check(draft, hash);
    } catch (cause) {
      await this.#removeDrafts(kind, hash);
      if (cause instanceof ImageRefused) throw cause;
      throw new Lie(codeOf(cause), `${peer} sent something else: ${(cause as Error).message}`, { cause });
    }
    await files.place(kind, hash, draft);
    await this.#removeDrafts(kind, hash);
    return true;
  }

  /** The same, by records. Each part was found to be the file's before it was written: what is wrong with the whole is this host's. */
  async #ask(kind: AppFileKind, hash: string, peer: AskablePeer, check: Check): Promise<boolean> {
    const { files } = this.#options;
    const { stalledAfter, within } = this.#bounds;
    const made = await files.draft(kind, hash, RECORDS_MARK);
    const isWhole = await bringByRecords({
      ...{ peer, kind, hash, draft: made, within, partWithin: stalledAfter, signal: this.#ending.signal },
      requireRoom: (bytes) => this.#requireRoom(made, bytes),
    });
    if (!isWhole) return false;
    try {
      await check(made, hash);
    } catch (cause) {
      await this.#removeDrafts(kind, hash);
      if (cause instanceof ImageRefused) throw cause;
      const message = `what was written is not what came, so that all of it is asked for again: ${(cause as Error).message}`;
      throw new DstackError('APP_FILE_DRAFT', message, { cause });
    }
    await files.place(kind, hash, made);
    await this.#removeDrafts(kind, hash);
    return true;
  }

  /** Of this file, by whatever peer: there is one over HTTP at a time, and one by records. */
  async #removeDrafts(kind: AppFileKind, hash: string, except?: string): Promise<void> {
    const byRecords = await this.#options.files.draft(kind, hash, RECORDS_MARK);
    const spared = except === undefined ? [] : [except, byRecords].flatMap((path) => [path, tagFile(path)]);
    for (const { hash: of, path } of await this.#options.files.drafts(kind))
      if (of === hash && !spared.includes(path)) await rm(path, { force: true });
  }

  /** Of files that are not wanted any more, or are there by now. Never fails: what is wanted does not wait for it. */
  async #removeUnneeded(kind: AppFileKind, wanted: ReadonlySet<string>): Promise<void> {
    const { files, log } = this.#options;
    const removed = new Set<string>();
    try {
      for (const { hash, path } of await files.drafts(kind)) {
        if (wanted.has(hash) && !(await files.has(kind, hash))) continue;
        await rm(path, { force: true });
        removed.add(hash);
      }
      if (removed.size > 0) log.info({ kind, hashes: [...removed] }, 'removed drafts that nothing needs');
    } catch (error) {
      const code = codeOf(error);
      log.warn({ kind, code }, `drafts are not removed from ${kind}: ${(error as Error).message}`);
    }
  }

  /**
   * Goes on with the draft if it is of the same file. What was written stays there when it breaks off.
   * @param begins before anything is written
   */
  async #download(
    url: string,
    draft: string,
    maxBytes: number,
    begins: () => Promise<void>,
  ): Promise<boolean> {
    const has = await draftOf(draft);
    const { within, stalledAfter } = this.#bounds;
    const { status, headers, body } = await httpStream({
      url,
      timeout: within,
      stalledAfter,
      signal: this.#ending.signal,
      ...(has !== undefined && { headers: { range: `bytes=${has.size}-`, 'if-range': has.tag } }),
    });
    const goesOn = status === 206 && has !== undefined;
    const cancel = async () => void (await body.return(undefined));
    if (status === 416) await rm(draft, { force: true });
    if (status !== 200 && !goesOn) {
      await cancel();
      if (status === 404) return false;
      throw new DstackError('APP_FILE_PEER', `${url} answered HTTP ${status}`);
    }
    const at = goesOn ? has.size : 0;
    const whole = at + Number(headers.get('content-length') ?? Number.NaN);
    const tag = headers.get('etag') ?? '';
    if (goesOn && headers.get('content-range') !== `bytes ${at}-${whole - 1}/${whole}`) {
      await cancel();
      throw new DstackError('APP_FILE_PEER', `${url} answered with another range than was asked for`);
    }
    try {
      if (!Number.isSafeInteger(whole) || !TAG.test(tag))
        throw new DstackError('APP_FILE_PEER', `${url} does not say how long the file is, and which`);
      await begins();
      await this.#assertRoom(draft, whole, at, maxBytes);
    } catch (error) {
      await cancel();
      throw error;
    }
    await write(body, draft, { at, whole, tag, span: stalledAfter });
    return true;
  }

  async #assertRoom(draft: string, whole: number, at: number, maxBytes: number): Promise<void> {
    if (whole > maxBytes)
      throw new Lie('APP_FILE_TOO_LARGE', `it has ${whole} bytes, and may have ${maxBytes}`);
    await this.#requireRoom(draft, whole - at);
  }

  async #requireRoom(draft: string, bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(dirname(draft));
    if (bytes > bavail * bsize - this.#bounds.spare)
      throw new DstackError('APP_FILE_NO_SPACE', `the volume has no room for ${bytes} bytes: make some`);
  }
}

/** @throws DstackError when the draft is not what it should be */
type Check = (draft: string, hash: string) => Promise<void>;

const checkManifest: Check = async (draft, hash) => {
  const actual = toHex(manifestHash(await readFile(draft)));
  if (actual !== hash) throw new DstackError('MANIFEST_HASH_MISMATCH', `it hashes to ${actual}`);
};

/** What is in it is for the guest to judge. */
const checkEnvelope: Check = async (draft, hash) => {
  const actual = toHex(sha256(await readFile(draft)));
  if (actual !== hash) throw new DstackError('SECRET_HASH_MISMATCH', `it hashes to ${actual}`);
};

/** Reads all of it, as the guest will. */
async function checkArchive(draft: string, digest: string): Promise<void> {
  const file = await open(draft);
  try {
    const { size } = await file.stat();
    const image = await findImage(file, size, digest);
    for (const layer of image.layers)
      try {
        for await (const _ of checkedLayer(file, size, layer, new Room(ANY_SIZE)));
      } catch (error) {
        // The bytes are right: that no node unpacks them is the guest's to say.
        if (!(error instanceof ImageRefused)) throw error;
      }
  } finally {
    await file.close();
  }
}

/** A strong entity tag, RFC 9110, section 8.8.3. */
const TAG = /^"[A-Za-z0-9_-]{1,100}"$/;

/** How much of a draft there is, and of which file of the peer's. */
async function draftOf(draft: string): Promise<{ size: number; tag: string } | undefined> {
  try {
    const [{ size }, tag] = [await stat(draft), await readFile(tagFile(draft), 'utf8')];
    return size > 0 && TAG.test(tag) ? { size, tag } : undefined;
  } catch {
    return undefined;
  }
}

/** Bytes that have to come in each span of `stalledAfter`: a peer that gives a few now and then holds up all others. */
const LEAST = 64 * 1024;

interface Expected {
  at: number;
  whole: number;
  tag: string;
  /** Milliseconds. */
  span: number;
}

/** @throws APP_FILE_CUT, APP_FILE_SLOW, HTTP_UNREACHABLE; Lie when more comes than was said */
async function write(
  body: AsyncIterable<Uint8Array>,
  draft: string,
  { at, whole, tag, span }: Expected,
): Promise<void> {
  if (at === 0) {
    await rm(draft, { force: true });
    await writeFile(tagFile(draft), tag);
  }
  const file = await open(draft, 'a', 0o644);
  let size = at;
  let [since, before] = [performance.now(), at];
  try {
    for await (const chunk of body) {
      size += chunk.length;
      if (size > whole) throw new Lie('APP_FILE_TOO_LARGE', `more than the ${whole} bytes came that it said`);
      await file.writeFile(chunk);
      if (performance.now() - since < span) continue;
      if (size - before < LEAST)
        throw new DstackError('APP_FILE_SLOW', `${size - before} bytes came in ${span / 1000} s`);
      [since, before] = [performance.now(), size];
    }
    if (size < whole) throw new DstackError('APP_FILE_CUT', `it ends after ${size} of ${whole} bytes`);
    await file.chmod(0o644);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** The manifests that are in force, and those that come next; 64 hex digits. */
function named(apps: readonly AppView[]): string[] {
  const hashes = apps.flatMap(({ manifestHash, latest }) => [bareHex(manifestHash), bareHex(latest)]);
  return [...new Set(hashes)].filter((hash) => hash !== '0'.repeat(64));
}
