/** The thirteen points, and the tests for each: with processes, and in a VM where only a machine can show it. */

export interface Point {
  readonly number: number;
  /** What the prototype did. */
  readonly wrong: string;
  /** `file › test name`, as docs name tests; a name may be the beginning of one. */
  readonly processes: readonly string[];
  readonly vm: readonly string[];
}

const NODE = 'test/trust/node.test.ts';
const CONTRACT = 'test/trust/contract.test.ts';
const MACHINE = 'test/trust/machine.test.ts';
const DISK = 'test/trust/disk.test.ts';
const GOSSIP = 'test/trust/gossip.test.ts';
const NETWORK_VM = 'test/vm/network.vm.test.ts';
const ROOT_VM = 'test/vm/root-image.vm.test.ts';
const DISK_VM = 'test/vm/disk.vm.test.ts';

export const points: readonly Point[] = [
  {
    number: 1,
    wrong: 'the host could fetch any derived key, the TLS key too, from the app port',
    processes: [
      `${NODE} › 1: an app gets its own keys`,
      `${NODE} › 1: the host is not an app`,
      `${NODE} › 1: a visitor's request`,
      `${NODE} › 1: the host's own port has no keys`,
    ],
    vm: [`${NETWORK_VM} › offer the host two ports, and no key on either`],
  },
  {
    number: 2,
    wrong: 'host- and chain-supplied strings reached a shell or an `eval`',
    processes: [
      `${MACHINE} › 2: %j is refused at every boundary`,
      `${MACHINE} › 2: an app on chain whose name is none of ours`,
      `${MACHINE} › 2: a program gets its arguments as they are`,
      `${MACHINE} › 2: no file of the product uses a shell`,
    ],
    vm: [],
  },
  {
    number: 3,
    wrong: 'a new VM took whatever "secret" the host handed it',
    processes: [`${NODE} › 3: a new node takes only the answer that the contract recorded`],
    vm: [`${NETWORK_VM} › have the network key that the contract has`],
  },
  {
    number: 4,
    wrong:
      'the quote was "verified" by a URL that the host chose; no measurement, TCB status or debug bit was checked',
    processes: [
      `${NODE} › 4: a registered request whose quote is of %s is refused`,
      `${NODE} › 4: a request that was registered under another quote's hash`,
      `${NODE} › 4: a machine that has joined gets no quote`,
      `${NODE} › 4: the same request without a lie is answered`,
    ],
    vm: [],
  },
  {
    number: 5,
    wrong: '`ecrecover` returning 0 matched an unset key: before bootstrap every signature was valid',
    processes: [
      `${CONTRACT} › 5: a signature that recovers nothing`,
      `${CONTRACT} › 5: nor that of a node at address zero`,
    ],
    vm: [],
  },
  {
    number: 6,
    wrong: 'bootstrap could be repeated; onboard could be replayed, for addresses that never asked',
    processes: [
      `${CONTRACT} › 6: bootstrap is the owner's`,
      `${CONTRACT} › 6: an onboarding is for one open request`,
      `${CONTRACT} › 6: an onboarding for one node is none for another`,
      `${NODE} › 6: an onboarder answers nobody who did not ask on chain`,
    ],
    vm: [],
  },
  {
    number: 7,
    wrong: 'digests named no chain and no contract; `tag ‖ data` was ambiguous; any app could use any tag',
    processes: [
      `${CONTRACT} › 7: an attestation holds for its contract and its chain only`,
      `${CONTRACT} › 7: app, tag and data can't be shifted`,
      `${CONTRACT} › 7: a signature for one purpose`,
      `${CONTRACT} › 7: keys: another app`,
      `${NODE} › 7: a quote that was made for another %s`,
      `${NODE} › 7: a request signed for another network`,
    ],
    vm: [],
  },
  {
    number: 8,
    wrong: 'the root filesystem was writable and unmeasured; the documented demo had a root password',
    processes: [`${MACHINE} › 8: nobody can log in`, `${MACHINE} › 8: the root is read-only`],
    vm: [
      `${ROOT_VM} › one bit in the first block: the machine ends, and nothing of it has run`,
      'test/vm/flavours.vm.test.ts › production and sim differ in one file',
    ],
  },
  {
    number: 9,
    wrong: 'a container archive was trusted by its tag',
    processes: [
      `${MACHINE} › 9: an archive under the right name and tag`,
      `${MACHINE} › 9: an engine that says it took an image`,
      `${MACHINE} › 9: a container is made from an image's digest`,
    ],
    vm: [`${NETWORK_VM} › a rollout whose archive the host spoiled`],
  },
  {
    number: 10,
    wrong: 'one raw secret was every key, and travelled through argv, environment and echo',
    processes: [
      `${NODE} › 10: neither the secret nor a key of it`,
      `${MACHINE} › 10: a key goes to the kernel's mapper`,
      `${MACHINE} › 10: no two uses share a key`,
      `${MACHINE} › 10: a wiped secret is gone`,
      `${MACHINE} › 10: no daemon's memory`,
    ],
    vm: [`${NETWORK_VM} › is the only one that tells`],
  },
  {
    number: 11,
    wrong: 'a missing LUKS header meant "format": the host could wipe or swap the disk',
    processes: [
      `${DISK} › 11: a disk without a superblock is an error`,
      `${DISK} › 11: \`create\` formats nothing that is not blank`,
      `${DISK} › 11: a disk of ours is opened again`,
      `${DISK} › 11: a header with %s changed`,
      `${DISK} › 11: a disk of another network`,
      `${DISK} › 11: another node's disk`,
    ],
    vm: [
      `${DISK_VM} › blank, no create`,
      `${DISK_VM} › superblock zeroed`,
      `${DISK_VM} › another network's`,
      `${DISK_VM} › swapped with another node's`,
    ],
  },
  {
    number: 12,
    wrong: 'the TLS certificate was any file that the host wrote, forever',
    processes: [`${NODE} › 12: the certificate is of the network's own key`],
    vm: [`${NETWORK_VM} › serve the contract's app under one TLS key`],
  },
  {
    number: 13,
    wrong: 'one bad gossip message killed the relay; late subscribers never saw a request',
    processes: [
      `${GOSSIP} › 13: a peer's bad messages, polled`,
      `${GOSSIP} › 13: bad messages pushed`,
      `${GOSSIP} › 13: a relay that starts after a request was made`,
    ],
    vm: [],
  },
];
