/** Each invariant is violated by a history that it forbids, which shows that none of them is vacuous. */
import { expect, test } from 'vitest';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import type { RequestView } from '../../lib/protocol/network-contract.ts';
import { ZERO_ADDRESS, ZERO_WORD } from './model.ts';
import type { Named } from './refusal.ts';
import { type Accepted, InvariantBroken, type Shown, Watch } from './watch.ts';

const OWNER = `0x${'0a'.repeat(20)}`;
const OTHER = `0x${'0b'.repeat(20)}`;
const KEY = `0x${'0c'.repeat(20)}`;
const [M, C, P, R, APP, FILE] = ['11', '22', '33', '44', '55', '66'].map(
  (byte) => `0x${byte.repeat(32)}`,
) as [string, string, string, string, string, string];
const FMSPC = '0x00906ed50000';
const DELAY = 100;
const WINDOW = 5;

/** A history, and what the views show after each of its blocks. */
class History {
  readonly watch = new Watch(OWNER, DELAY, WINDOW);
  number = 10;
  time = 1_000;
  network = {
    networkKey: parseAddress(ZERO_ADDRESS),
    epoch: 0,
    onboarded: false,
    delay: DELAY,
    requestWindow: WINDOW,
    platformsOpen: false,
  };
  allowed = { measurementAllowed: false, configAllowed: false, platformAllowed: false };
  manifestHash = ZERO_WORD;
  policy = { minimumTcbEvaluationDataNumber: 0, statuses: 0b1, gracePeriod: 0 };
  fmspcDenied = false;
  readonly requests = new Map<string, RequestView>();

  /** A block that many seconds after the previous one. */
  block(seconds: number, ...accepted: Accepted[]): void {
    this.number += 1;
    this.time += seconds;
    const shown: Shown = {
      network: this.network,
      owner: OWNER,
      allowed: [{ measurement: M, config: C, platform: P, result: this.allowed }],
      apps: [
        {
          app: parseHex(APP),
          manifestHash: parseHex(this.manifestHash),
          latest: parseHex(this.manifestHash),
          from: 0n,
        },
      ],
      requests: this.requests,
      policy: this.policy,
      fmspcs: [{ fmspc: FMSPC, denied: this.fmspcDenied }],
    };
    this.watch.block(this.number, this.time, accepted, shown);
  }

  /** A block ten seconds later, with one call by the owner that emits this event. */
  owner(name: string, fields: object = {}): void {
    this.block(10, byOwner(name, fields));
  }

  shows(change: {
    readonly network?: Partial<History['network']>;
    readonly allowed?: Partial<History['allowed']>;
    readonly policy?: Partial<History['policy']>;
  }): void {
    this.network = { ...this.network, ...change.network };
    this.allowed = { ...this.allowed, ...change.allowed };
    this.policy = { ...this.policy, ...change.policy };
  }

  /** Everything allowed, bootstrapped, one request open. */
  static registered(): History {
    const history = new History();
    history.shows({ allowed: { measurementAllowed: true, configAllowed: true, platformAllowed: true } });
    history.block(
      10,
      byOwner('MeasurementAllowed', { measurement: M }),
      byOwner('ConfigAllowed', { config: C }),
      byOwner('PlatformAllowed', { platform: P }),
    );
    history.shows({ network: { networkKey: parseAddress(KEY), epoch: 1 } });
    history.owner('Bootstrapped', { epoch: 1n, networkKey: KEY });
    history.requests.set(R, view('open'));
    history.block(10, byAnyone('register', { name: 'Registered', requestHash: R, node: OTHER }));
    return history;
  }

  onboard(): void {
    this.shows({ network: { onboarded: true } });
    this.requests.set(R, view('answered'));
    this.block(10, byAnyone('onboard', ONBOARDED));
  }

  rollout(): void {
    this.owner('RolledOut', { app: APP, manifestHash: FILE });
    this.manifestHash = FILE;
  }

  minimum(tcbEvaluationDataNumber: number): void {
    this.owner('MinimumTcbEvaluationNumberSet', { tcbEvaluationDataNumber });
  }
}

const ONBOARDED = { name: 'Onboarded', requestHash: R, measurement: M, platform: P };

/** The name of the function does not matter, as long as it is not one that anyone may call. */
function byOwner(name: string, fields: object): Accepted {
  return { function: 'rollback', from: OWNER, events: [{ name, ...fields }] };
}

function byAnyone(called: string, ...events: Named[]): Accepted {
  return { function: called, from: OTHER, events };
}

function view(state: RequestView['state']): RequestView {
  return {
    state,
    node: parseAddress(OTHER),
    blockNumber: 0n,
    expiresAfter: 0n,
    epoch: 1,
    answerHash: parseHex(ZERO_WORD),
  };
}

function broken(run: () => void): string {
  try {
    run();
  } catch (error) {
    if (error instanceof InvariantBroken) return error.invariant;
    throw error;
  }
  return 'nothing';
}

test('a sound history breaks nothing', () => {
  const history = History.registered();
  history.onboard();
  history.owner('RolledOut', { app: APP, manifestHash: FILE });
  history.manifestHash = FILE;
  expect(broken(() => history.block(DELAY))).toBe('nothing');
});

const JOINING = 'what may join has a ripe cause that nothing has undone';
const TCB = 'what the TCB policy lets in has a ripe cause that nothing has undone';
const MANIFEST = 'a manifest in force has a ripe rollout that nothing has undone';
const OPEN_REQUEST = 'no onboard without its open request of that epoch';

/** A history up to an open request, continued so that it breaks this invariant and no other. */
function breach(invariant: string, how: string, run: (history: History) => void): void {
  test(`${invariant}: ${how}`, () => {
    const history = History.registered();
    expect(broken(() => run(history))).toBe(invariant);
  });
}

breach('only the owner decides', 'a stranger revokes', (it) => it.block(10, byAnyone('revokeConfig')));
breach('one secret-holder key: that of the last bootstrap', 'the key changes by itself', (it) => {
  it.shows({ network: { networkKey: parseAddress(OTHER) } });
  it.block(10);
});
breach('bootstrap is closed after the first onboard', 'another bootstrap', (it) => {
  it.onboard();
  it.owner('Bootstrapped', { epoch: 2n, networkKey: OTHER });
});
breach('each bootstrap raises the epoch by one', 'the same epoch again', (it) =>
  it.owner('Bootstrapped', { epoch: 1n, networkKey: OTHER }),
);
breach(OPEN_REQUEST, 'one that nobody registered', (it) =>
  it.block(10, byAnyone('onboard', { ...ONBOARDED, requestHash: FILE })),
);
breach(OPEN_REQUEST, 'one of the epoch before', (it) => {
  it.shows({ network: { networkKey: parseAddress(OTHER), epoch: 2 } });
  it.requests.set(R, view('expired'));
  it.owner('Bootstrapped', { epoch: 2n, networkKey: OTHER });
  it.block(10, byAnyone('onboard', ONBOARDED));
});
breach(OPEN_REQUEST, 'twice', (it) => {
  it.onboard();
  it.onboard();
});
breach('requests expire', 'an answer after the window', (it) => {
  it.requests.set(R, view('expired'));
  for (let i = 0; i < WINDOW; i++) it.block(10);
  it.onboard();
});
breach('requests expire', 'still open after the window', (it) => {
  for (let i = 0; i <= WINDOW; i++) it.block(10);
});
breach('no onboard of what is not allowed', 'on a platform revoked in the block', (it) => {
  it.shows({ allowed: { platformAllowed: false } });
  it.block(10, byOwner('PlatformRevoked', { platform: P }), byAnyone('onboard', ONBOARDED));
});
breach(JOINING, 'a measurement is allowed a second early', (it) => {
  it.shows({ allowed: { measurementAllowed: false } });
  it.owner('MeasurementRevoked', { measurement: M });
  it.owner('MeasurementAllowed', { measurement: M });
  it.shows({ allowed: { measurementAllowed: true } });
  it.block(DELAY - 1);
});
breach(JOINING, 'a config is still allowed in the block that revokes it', (it) =>
  it.owner('ConfigRevoked', { config: C }),
);
breach(JOINING, 'a revoked platform joins because platforms are open', (it) => {
  it.shows({ allowed: { platformAllowed: false } });
  it.owner('PlatformRevoked', { platform: P });
  it.owner('PlatformsOpened');
  it.shows({ allowed: { platformAllowed: true }, network: { platformsOpen: true } });
  it.block(DELAY);
});
breach('a delay shortens after itself', 'a shorter delay holds at once', (it) => {
  it.shows({ network: { delay: 1 } });
  it.owner('DelaySet', { delay: 1 });
});
breach(MANIFEST, 'a rollout a second early', (it) => {
  it.rollout();
  it.block(DELAY - 1);
});
breach(MANIFEST, 'a withdrawn manifest stays', (it) => {
  it.rollout();
  it.block(DELAY);
  it.owner('Withdrawn', { app: APP });
});
breach(TCB, 'a lower minimum a second early', (it) => {
  it.shows({ policy: { minimumTcbEvaluationDataNumber: 17 } });
  it.minimum(17);
  it.minimum(16);
  it.shows({ policy: { minimumTcbEvaluationDataNumber: 16 } });
  it.block(DELAY - 1);
});
breach(TCB, 'a higher minimum in the next block only', (it) => it.minimum(17));
breach(TCB, 'a lower minimum that a tightening has cancelled', (it) => {
  it.shows({ policy: { minimumTcbEvaluationDataNumber: 17 } });
  it.minimum(17);
  it.minimum(16);
  it.minimum(17);
  it.shows({ policy: { minimumTcbEvaluationDataNumber: 16 } });
  it.block(DELAY);
});
breach(TCB, 'a status that was added in exchange for another is accepted at once', (it) => {
  it.owner('AcceptedTcbStatusesSet', { statuses: 0b101 });
  it.shows({ policy: { statuses: 0b101 } });
  it.block(DELAY);
  it.shows({ policy: { statuses: 0b11 } });
  it.owner('AcceptedTcbStatusesSet', { statuses: 0b11 });
});
breach(TCB, 'a status that was taken away in exchange for another is accepted until that is', (it) => {
  it.owner('AcceptedTcbStatusesSet', { statuses: 0b101 });
  it.shows({ policy: { statuses: 0b101 } });
  it.block(DELAY);
  it.owner('AcceptedTcbStatusesSet', { statuses: 0b11 });
});
breach(TCB, 'a longer grace period at once', (it) => {
  it.shows({ policy: { gracePeriod: 60 } });
  it.owner('TcbOutOfDateGraceSet', { gracePeriod: 60 });
});
breach('Revoked is never accepted', 'even when the owner set it', (it) => {
  it.owner('AcceptedTcbStatusesSet', { statuses: 0b100_0001 });
  it.shows({ policy: { statuses: 0b100_0001 } });
  it.block(DELAY);
});
breach(TCB, 'an FMSPC is let in again a second early', (it) => {
  it.fmspcDenied = true;
  it.owner('FmspcDenied', { fmspc: FMSPC });
  it.owner('FmspcAllowed', { fmspc: FMSPC });
  it.fmspcDenied = false;
  it.block(DELAY - 1);
});
