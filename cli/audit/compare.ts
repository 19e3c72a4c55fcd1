/**
 * What the events add up to, held against the contract at the audited block: its views, what it says is to come, and the root of its
 * whole storage. An event that all endpoints left out, or put in, shows here.
 */
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { ZERO_WORD } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { Findings } from './findings.ts';
import type { AuditedHead } from './head.ts';
import type { Deployment } from './history.ts';
import type { Past } from './past.ts';
import { kinds } from './replay.ts';
import { sideBySide } from './side-by-side.ts';
import type { StateProof, Upcoming } from './state.ts';
import { bare, bytesOf, nameOf } from './words.ts';

export interface Compared {
  readonly past: Past;
  readonly flavour: Flavour;
  readonly reader: NetworkReader;
  /** All of the same block. */
  readonly head: AuditedHead;
  readonly stateProof: StateProof;
  readonly upcoming: Upcoming;
  readonly deployment: Deployment;
}

/** Questions to the endpoints at the same time. */
const AT_ONCE = 8;

export class Comparison {
  readonly #of: Compared;
  readonly #findings: Findings;
  #explained: boolean | undefined;

  constructor(of: Compared, findings: Findings) {
    this.#of = of;
    this.#findings = findings;
  }

  /** @returns how long a request stays open, in blocks, which no event says */
  async withState(): Promise<number> {
    const { reader, head, past } = this.#of;
    const { replay } = past;
    const network = await reader.network(head);
    this.#differs('network key', replay.networkKey, network.networkKey);
    this.#differs('epoch', replay.epoch, network.epoch);
    this.#differs('onboarded', replay.onboarded, network.onboarded);
    this.#differs('delay', replay.delayAt(head.timestamp), network.delay);
    const { deniedFmspcs, ...tcb } = replay.tcbPolicyAt(head.timestamp);
    const shown = await reader.tcbPolicy(head);
    for (const part of ['statuses', 'minimumTcbEvaluationDataNumber', 'gracePeriodDays'] as const) {
      this.#differs(`TCB policy: ${part}`, tcb[part], shown[part]);
    }
    for (const fmspc of deniedFmspcs ?? []) {
      this.#differs(`FMSPC ${fmspc} denied`, true, await reader.fmspcDenied(bytesOf(fmspc), head));
    }
    this.#differs('platforms open', replay.platformsOpenAt(head.timestamp), network.platformsOpen);
    const apps = await reader.apps(head);
    const replayed = [...replay.apps.values()].filter(({ manifest }) => manifest !== undefined);
    this.#differs('number of apps', replayed.length, apps.length);
    for (const { app, manifestHash } of apps) {
      const manifest = replay.manifestAt(app, head.timestamp) ?? ZERO_WORD;
      this.#differs(`app ${nameOf(app)}`, manifest, manifestHash);
    }
    if (!this.#isProven()) await this.#listsWithViews();
    return network.requestWindow;
  }

  async #listsWithViews(): Promise<void> {
    const { reader, head, past } = this.#of;
    const { replay } = past;
    // A call answers for one value of each kind.
    const [measurements, configs, platforms] = kinds.map((kind) => [...replay.valuesOf(kind)]);
    const rows = Math.max(measurements!.length, configs!.length, platforms!.length);
    const triples = Array.from({ length: rows }, (_, at) => ({
      measurement: measurements![at] ?? ZERO_WORD,
      config: configs![at] ?? ZERO_WORD,
      platform: platforms![at] ?? ZERO_WORD,
    }));
    const allowed = await sideBySide(triples, AT_ONCE, ({ measurement, config, platform }) =>
      reader.isAllowed(
        { measurement: bytesOf(measurement), config: bytesOf(config), platform: bytesOf(platform) },
        head,
      ),
    );
    for (const kind of kinds) {
      for (const [at, value] of [...replay.valuesOf(kind)].entries()) {
        const is = replay.standing(kind, value, head.timestamp).is === 'allowed';
        this.#differs(`${kind} ${bare(value)}`, is, allowed[at]![`${kind}Allowed`]);
      }
    }
  }

  /**
   * Compares what is pending with what the contract itself says: the delay exists so that a loosening is seen before it takes effect,
   * and an endpoint that hides one would defeat that.
   */
  async withUpcoming(): Promise<void> {
    const { upcoming, past } = this.#of;
    const { minimum, statuses, grace, nextDelay, deniedUntil, platformsOpenFrom } = past.storage;
    const dated = (value: unknown, from: unknown) => `${value} from ${from}`;
    this.#differs(
      'the delay set last',
      dated(nextDelay.delay, nextDelay.from),
      dated(upcoming.delay.delay, upcoming.delay.from),
    );
    this.#differs('platforms open from', platformsOpenFrom, upcoming.platformsOpenFrom);
    const tcb = upcoming.tcbPolicy;
    for (const [what, part, value, from] of [
      ['minimum', minimum, tcb.minimumTcbEvaluationDataNumber, tcb.minimumFrom],
      ['statuses', statuses, tcb.statuses, tcb.statusesFrom],
      ['grace period', grace, tcb.gracePeriod, tcb.gracePeriodFrom],
    ] as const) {
      this.#differs(`TCB policy set last: ${what}`, dated(part.set, part.from), dated(value, from));
    }
    const fmspcs = (list: readonly (readonly [string, bigint])[]) =>
      list.map(([fmspc, until]) => `${fmspc} until ${until}`).join(', ') || 'none';
    this.#differs(
      'denied FMSPCs',
      fmspcs([...deniedUntil]),
      fmspcs(upcoming.fmspcs.map(({ fmspc, deniedUntil: until }) => [fmspc, until] as const)),
    );
    for (const { app, latest, from } of upcoming.apps) {
      const replayed = past.storage.appOf(app);
      const what = `latest manifest of app ${nameOf(app)}`;
      this.#differs(what, dated(replayed.latest, replayed.from), dated(latest, from));
    }
    if (this.#isProven()) return;
    const values = kinds.flatMap((kind) => [...past.replay.valuesOf(kind)].map((value) => ({ kind, value })));
    const shown = await sideBySide(values, AT_ONCE, ({ kind, value }) => upcoming.allowedFrom(kind, value));
    for (const [at, { kind, value }] of values.entries()) {
      this.#differs(`${kind} ${bare(value)} allowed from`, past.storage.allowedFrom(kind, value), shown[at]);
    }
  }

  /**
   * A view answers for a value that one knows. A value that was allowed secretly, or a request that was answered secretly, shows only in the
   * root of the storage.
   */
  withStorage(): void {
    const { stateProof, head, flavour, past } = this.#of;
    const where = `block ${head.number}`;
    if (!stateProof.proven) {
      const message = `no endpoint proves the contract's storage (eth_getProof), so it is unknown whether the events are complete: give an endpoint that does, with --rpc (${stateProof.reason})`;
      this.#findings.add('gap', 'STORAGE_UNPROVEN', where, message);
    } else if (!this.isExplained() && !stateProof.canonical) {
      const message =
        "this chain keeps empty slots in its tries, as some development chains do: its storage root can't be compared, so it is unknown whether the events are complete";
      const severity = flavour === 'production' ? 'gap' : 'warning';
      this.#findings.add(severity, 'STORAGE_ROOT_NOT_CANONICAL', where, message);
    } else if (!this.isExplained()) {
      const message = `the contract's storage has root ${stateProof.storageRoot}, the events add up to ${past.storage.root()}: something is set, allowed, pending or answered that the events don't show`;
      this.#findings.add('failure', 'STORAGE_UNEXPLAINED', where, message);
    }
  }

  /** Whether the contract's whole storage is what the events add up to. Of a history that has been taken to its end. */
  isExplained(): boolean {
    const { stateProof, past } = this.#of;
    this.#explained ??= stateProof.proven && stateProof.storageRoot === past.storage.root();
    return this.#explained;
  }

  /** Whether every value that the contract holds is known to be what the events add up to: then no view has to say it again. */
  #isProven(): boolean {
    return this.isExplained() && this.#of.deployment.genuine;
  }

  #differs(what: string, replayed: unknown, actual: unknown): void {
    if (String(replayed).toLowerCase() === String(actual).toLowerCase()) return;
    const message = `the events add up to ${replayed}, the contract says ${actual}`;
    this.#findings.add('failure', 'HISTORY_INCOMPLETE', what, message);
  }
}
