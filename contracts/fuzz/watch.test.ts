import { expect, test } from 'vitest';
import type { RequestView } from '../../lib/protocol/network-contract.ts';
import { InvariantBroken } from './invariant.ts';
import { ZERO_ADDRESS, ZERO_WORD } from './model.ts';
import type { Named } from './refusal.ts';
import { type Accepted, type Shown, Watch } from './watch.ts';

const OWNER = `0x${'0a'.repeat(20)}`;
const OTHER = `0x${'0b'.repeat(20)}`;
const KEY = `0x${'0c'.repeat(20)}`;
const [M, C, P, R, APP, FILE] = ['11', '22', '33', '44', '55', '66'].map(
  (byte) => `0x${byte.repeat(32)}`,
) as [string, string, string, string, string, string];
const FMSPC = '0x00906ed50000';
const DELAY = 100;
const WINDOW = 5;
const START = 1_000;

/** A history that is all right: one event a block, ten seconds apart, and what the views show after it. */
class History {
  readonly watch = new Watch(OWNER, DELAY, WINDOW);
  number = 10;
  time = START;
  network = {
    networkKey: ZERO_ADDRESS,
    epoch: 0,
    onboarded: false,
    delay: DELAY,
    requestWindow: WINDOW,
    platformsOpen: false,
  };
  owner = OWNER;
  allowed = { measurementAllowed: false, configAllowed: false, platformAllowed: false };
  manifestHash = ZERO_WORD;
  policy = { minimumTcbEvaluationDataNumber: 0, statuses: 0b1, gracePeriod: 0 };
  fmspcDenied = false;
  readonly requests = new Map<string, RequestView>();

  block(seconds: number, ...accepted: Accepted[]): void {
    this.number += 1;
    this.time += seconds;
    const shown: Shown = {
      network: this.network,
      owner: this.owner,
      allowed: [{ measurement: M, config: C, platform: P, result: this.allowed }],
      apps: [{ app: APP, manifestHash: this.manifestHash, latest: this.manifestHash, from: 0n }],
      requests: this.requests,
      tcb: { policy: this.policy, fmspcs: [{ fmspc: FMSPC, denied: this.fmspcDenied }] },
    };
    this.watch.block(this.number, this.time, accepted, shown);
  }

  /** Everything allowed, bootstrapped, one request open. */
  static registered(): History {
    const history = new History();
    history.allowed = { measurementAllowed: true, configAllowed: true, platformAllowed: true };
    history.block(
      10,
      by(OWNER, 'allowMeasurement', { name: 'MeasurementAllowed', measurement: M }),
      by(OWNER, 'allowConfig', { name: 'ConfigAllowed', config: C }),
      by(OWNER, 'allowPlatform', { name: 'PlatformAllowed', platform: P }),
    );
    history.network = { ...history.network, networkKey: KEY, epoch: 1 };
    history.block(10, by(OWNER, 'bootstrap', { name: 'Bootstrapped', epoch: 1n, networkKey: KEY }));
    history.requests.set(R, view('open'));
    history.block(10, by(OTHER, 'register', { name: 'Registered', requestHash: R, node: OTHER }));
    return history;
  }

  onboard(): void {
    this.network = { ...this.network, onboarded: true };
    this.requests.set(R, view('answered'));
    this.block(10, by(OTHER, 'onboard', ONBOARDED));
  }
}

const ONBOARDED = { name: 'Onboarded', requestHash: R, measurement: M, platform: P };

function by(from: string, called: string, ...events: Named[]): Accepted {
  return { function: called, from, events };
}

function view(state: RequestView['state']): RequestView {
  return { state, node: OTHER, blockNumber: 0n, expiresAfter: 0n, epoch: 1, answerHash: ZERO_WORD };
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
  history.block(10, by(OWNER, 'rollout', { name: 'RolledOut', app: APP, manifestHash: FILE }));
  history.manifestHash = FILE;
  expect(broken(() => history.block(DELAY))).toBe('nothing');
});

const TCB_RULE = 'what the TCB policy lets in has a ripe cause that nothing has undone';
const minimumSet = (tcbEvaluationDataNumber: number): Named => {
  return { name: 'MinimumTcbEvaluationNumberSet', tcbEvaluationDataNumber };
};
const statusesSet = (statuses: number): Named => ({ name: 'AcceptedTcbStatusesSet', statuses });

const BREACHES: readonly (readonly [invariant: string, how: string, breach: (history: History) => void])[] = [
  ['only the owner decides', 'a stranger revokes', (it) => it.block(10, by(OTHER, 'revokeConfig'))],
  [
    'one secret-holder key: that of the last bootstrap',
    'the key changes by itself',
    (it) => {
      it.network = { ...it.network, networkKey: OTHER };
      it.block(10);
    },
  ],
  [
    'bootstrap is closed after the first onboard',
    'another bootstrap',
    (it) => {
      it.onboard();
      it.block(10, by(OWNER, 'bootstrap', { name: 'Bootstrapped', epoch: 2n, networkKey: OTHER }));
    },
  ],
  [
    'each bootstrap raises the epoch by one',
    'the same epoch again',
    (it) => it.block(10, by(OWNER, 'bootstrap', { name: 'Bootstrapped', epoch: 1n, networkKey: OTHER })),
  ],
  [
    'no onboard without its open request of that epoch',
    'one that nobody registered',
    (it) => it.block(10, by(OTHER, 'onboard', { ...ONBOARDED, requestHash: FILE })),
  ],
  [
    'no onboard without its open request of that epoch',
    'one of the epoch before',
    (it) => {
      it.network = { ...it.network, networkKey: OTHER, epoch: 2 };
      it.requests.set(R, view('expired'));
      it.block(10, by(OWNER, 'bootstrap', { name: 'Bootstrapped', epoch: 2n, networkKey: OTHER }));
      it.block(10, by(OTHER, 'onboard', ONBOARDED));
    },
  ],
  [
    'no onboard without its open request of that epoch',
    'twice',
    (it) => {
      it.onboard();
      it.onboard();
    },
  ],
  [
    'requests expire',
    'an answer after the window',
    (it) => {
      it.requests.set(R, view('expired'));
      for (let i = 0; i < WINDOW; i++) it.block(10);
      it.onboard();
    },
  ],
  [
    'requests expire',
    'still open after the window',
    (it) => {
      for (let i = 0; i <= WINDOW; i++) it.block(10);
    },
  ],
  [
    'no onboard of what is not allowed',
    'on a platform revoked in the block',
    (it) => {
      it.allowed = { ...it.allowed, platformAllowed: false };
      it.block(
        10,
        by(OWNER, 'revokePlatform', { name: 'PlatformRevoked', platform: P }),
        by(OTHER, 'onboard', ONBOARDED),
      );
    },
  ],
  [
    'what may join has a ripe cause that nothing has undone',
    'a measurement is allowed a second early',
    (it) => {
      it.allowed = { ...it.allowed, measurementAllowed: false };
      it.block(10, by(OWNER, 'revokeMeasurement', { name: 'MeasurementRevoked', measurement: M }));
      it.block(10, by(OWNER, 'allowMeasurement', { name: 'MeasurementAllowed', measurement: M }));
      it.allowed = { ...it.allowed, measurementAllowed: true };
      it.block(DELAY - 1);
    },
  ],
  [
    'what may join has a ripe cause that nothing has undone',
    'a config is still allowed in the block that revokes it',
    (it) => it.block(10, by(OWNER, 'revokeConfig', { name: 'ConfigRevoked', config: C })),
  ],
  [
    'what may join has a ripe cause that nothing has undone',
    'a revoked platform joins because platforms are open',
    (it) => {
      it.allowed = { ...it.allowed, platformAllowed: false };
      it.block(10, by(OWNER, 'revokePlatform', { name: 'PlatformRevoked', platform: P }));
      it.block(10, by(OWNER, 'openPlatforms', { name: 'PlatformsOpened' }));
      it.allowed = { ...it.allowed, platformAllowed: true };
      it.network = { ...it.network, platformsOpen: true };
      it.block(DELAY);
    },
  ],
  [
    'a delay shortens after itself',
    'a shorter delay holds at once',
    (it) => {
      it.network = { ...it.network, delay: 1 };
      it.block(10, by(OWNER, 'setDelay', { name: 'DelaySet', delay: 1 }));
    },
  ],
  [
    'a manifest in force has a ripe rollout that nothing has undone',
    'a rollout a second early',
    (it) => {
      it.block(10, by(OWNER, 'rollout', { name: 'RolledOut', app: APP, manifestHash: FILE }));
      it.manifestHash = FILE;
      it.block(DELAY - 1);
    },
  ],
  [
    'a manifest in force has a ripe rollout that nothing has undone',
    'a withdrawn manifest stays',
    (it) => {
      it.block(10, by(OWNER, 'rollout', { name: 'RolledOut', app: APP, manifestHash: FILE }));
      it.manifestHash = FILE;
      it.block(DELAY);
      it.block(10, by(OWNER, 'withdraw', { name: 'Withdrawn', app: APP }));
    },
  ],
  [
    TCB_RULE,
    'a lower minimum a second early',
    (it) => {
      it.policy = { ...it.policy, minimumTcbEvaluationDataNumber: 17 };
      it.block(10, by(OWNER, 'setMinimumTcbEvaluationNumber', minimumSet(17)));
      it.block(10, by(OWNER, 'setMinimumTcbEvaluationNumber', minimumSet(16)));
      it.policy = { ...it.policy, minimumTcbEvaluationDataNumber: 16 };
      it.block(DELAY - 1);
    },
  ],
  [
    TCB_RULE,
    'a higher minimum in the next block only',
    (it) => it.block(10, by(OWNER, 'setMinimumTcbEvaluationNumber', minimumSet(17))),
  ],
  [
    TCB_RULE,
    'a lower minimum that a tightening has cancelled',
    (it) => {
      it.policy = { ...it.policy, minimumTcbEvaluationDataNumber: 17 };
      it.block(10, by(OWNER, 'setMinimumTcbEvaluationNumber', minimumSet(17)));
      it.block(10, by(OWNER, 'setMinimumTcbEvaluationNumber', minimumSet(16)));
      it.block(10, by(OWNER, 'setMinimumTcbEvaluationNumber', minimumSet(17)));
      it.policy = { ...it.policy, minimumTcbEvaluationDataNumber: 16 };
      it.block(DELAY);
    },
  ],
  [
    TCB_RULE,
    'a status that was added in exchange for another is accepted at once',
    (it) => {
      it.block(10, by(OWNER, 'setAcceptedTcbStatuses', statusesSet(0b101)));
      it.policy = { ...it.policy, statuses: 0b101 };
      it.block(DELAY);
      it.policy = { ...it.policy, statuses: 0b11 };
      it.block(10, by(OWNER, 'setAcceptedTcbStatuses', statusesSet(0b11)));
    },
  ],
  [
    TCB_RULE,
    'a status that was taken away in exchange for another is accepted until that is',
    (it) => {
      it.block(10, by(OWNER, 'setAcceptedTcbStatuses', statusesSet(0b101)));
      it.policy = { ...it.policy, statuses: 0b101 };
      it.block(DELAY);
      it.block(10, by(OWNER, 'setAcceptedTcbStatuses', statusesSet(0b11)));
    },
  ],
  [
    TCB_RULE,
    'a longer grace period at once',
    (it) => {
      it.policy = { ...it.policy, gracePeriod: 60 };
      it.block(10, by(OWNER, 'setTcbOutOfDateGrace', { name: 'TcbOutOfDateGraceSet', gracePeriod: 60 }));
    },
  ],
  [
    'Revoked is never accepted',
    'even when the owner set it',
    (it) => {
      it.block(10, by(OWNER, 'setAcceptedTcbStatuses', statusesSet(0b100_0001)));
      it.policy = { ...it.policy, statuses: 0b100_0001 };
      it.block(DELAY);
    },
  ],
  [
    TCB_RULE,
    'an FMSPC is let in again a second early',
    (it) => {
      it.fmspcDenied = true;
      it.block(10, by(OWNER, 'setDeniedFmspc', { name: 'FmspcDenied', fmspc: FMSPC }));
      it.block(10, by(OWNER, 'setDeniedFmspc', { name: 'FmspcAllowed', fmspc: FMSPC }));
      it.fmspcDenied = false;
      it.block(DELAY - 1);
    },
  ],
];

test.each(BREACHES)('%s: %s', (invariant, _, breach) => {
  const history = History.registered();
  expect(broken(() => breach(history))).toBe(invariant);
});
