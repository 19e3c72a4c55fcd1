/**
 * The defences behind the thirteen points, each as the line that holds it: what is removed or weakened, and the test that
 * must then fail. One entry, one defence. The texts must occur exactly once in their file, or the runner refuses.
 */

export interface Edit {
  /** From the repository's root. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Mutation {
  /** The point under "Trust" in docs/threat-model.md, 1 to 13. */
  readonly point: number;
  /** What is no longer done, in a few words. */
  readonly removes: string;
  readonly edits: readonly Edit[];
  readonly test: {
    readonly file: string /** A regular expression over test names. */;
    readonly name: string;
  };
}

const one = (
  point: number,
  removes: string,
  [file, find, replace]: readonly [string, string, string],
  [testFile, name]: readonly [string, string],
): Mutation => ({ point, removes, edits: [{ file, find, replace }], test: { file: testFile, name } });

const node = 'test/trust/node.test.ts';
const contract = 'test/trust/contract.test.ts';
const machine = 'test/trust/machine.test.ts';
const disk = 'test/trust/disk.test.ts';
const gossip = 'test/trust/gossip.test.ts';

const CONTRACT = 'contracts/Network.sol';
const VERIFY = 'lib/attestation/verify.ts';
const NETWORK_POLICY = 'lib/framework/network-policy.ts';
const CHAINS = 'lib/attestation/chains.ts';
const INTEL_RULES = 'lib/attestation/intel-rules.ts';
const POLICY = 'lib/attestation/policy.ts';
const ONBOARD = 'guest/replicator/onboard.ts';
const OWN_REQUEST = 'guest/replicator/own-request.ts';
const KEYS = 'lib/protocol/keys.ts';
const TYPED_DATA = 'lib/protocol/typed-data.ts';
const SYSTEM = 'guest/disk/system.ts';
const SECRET = 'guest/replicator/secret.ts';
const DISK = 'guest/disk/disk.ts';
const HTTP_GOSSIP = 'host/gossip/http-gossip.ts';
const ROOTFS = 'guest/image/rootfs/etc';
const INIT = 'guest/image/initramfs/init';

export const mutations: readonly Mutation[] = [
  // 1: the host could fetch any derived key, the TLS key too, from the app port
  one(
    1,
    'the caller’s address',
    ['guest/agent/callers.ts', 'address === remote && gateway === local', 'gateway === local'],
    [node, '^1: the host is not an app'],
  ),
  one(
    1,
    'the bridge that the caller arrives on',
    ['guest/agent/callers.ts', 'address === remote && gateway === local', 'address === remote'],
    [node, '^1: the host is not an app'],
  ),
  one(
    1,
    'the refusal of forwarded requests',
    ['guest/agent/server.ts', '  assertPlain(request);\n', ''],
    [node, '^1: a visitor'],
  ),
  one(
    1,
    'the app in the request for its key',
    [
      'guest/agent/server.ts',
      'siblings.appKey(app, question.tag)',
      'siblings.appKey(question.tag, question.tag)',
    ],
    [node, '^1: an app gets'],
  ),
  one(
    1,
    'the permissions of a socket that gives keys',
    ['lib/framework/unix-http.ts', 'options.mode ?? (options.gid === undefined ? 0o600 : 0o660)', '0o666'],
    [node, '^1: the host’s own port'],
  ),

  // 2: host- and chain-supplied strings reached a shell or an `eval`
  one(
    2,
    'running programs without a shell',
    [SYSTEM, '{ timeout: 120_000 }', '{ timeout: 120_000, shell: true }'],
    [machine, '^2: a program gets'],
  ),
  one(
    2,
    'the rule that nothing uses a shell',
    [SYSTEM, '{ timeout: 120_000 }', '{ timeout: 120_000, shell: true }'],
    [machine, '^2: no file of the product'],
  ),
  one(
    2,
    'the form of an address',
    [
      'lib/protocol/schema.ts',
      "Type.String({ pattern: '^0x[0-9a-fA-F]{40}$', maxLength: 42 })",
      'Type.String({ maxLength: 42 })',
    ],
    [machine, '^2: .* at every boundary'],
  ),
  one(
    2,
    'the form of a tag',
    ['guest/agent/guards.ts', 'if (!TAG.test(tag)) throw', "if (tag === '') throw"],
    [machine, '^2: .* at every boundary'],
  ),
  one(
    2,
    'the form of an app’s name',
    ['lib/protocol/manifest.ts', "  check(AppName, name, 'APP_NAME', ", '  void ('],
    [machine, '^2: an app on chain'],
  ),
  one(
    2,
    'the digest’s way through bytes before it is a path',
    ['guest/kubernethes/deployment.ts', 'const name = toHex(fromHex(digest, 32));', 'const name = digest;'],
    [machine, '^2: .* at every boundary'],
  ),

  // 3: a new VM took whatever "secret" the host handed it
  one(
    3,
    'the comparison with the contract’s network key',
    [
      'guest/replicator/node.ts',
      'if (!sameAddress(network.networkKey, keys.networkKey) || network.epoch !== opened.epoch) {',
      'if (network.epoch !== opened.epoch) {',
    ],
    [node, '^3: '],
  ),
  one(
    3,
    'the comparison with the answer’s hash on chain',
    [
      OWN_REQUEST,
      'if (!bytesEqual(answerHash(sealed).subarray(0, 31), recorded)) {',
      'if (recorded.length !== 31) {',
    ],
    [node, '^3: '],
  ),
  one(
    3,
    'waiting until the contract shows an answer',
    [OWN_REQUEST, "if (onChain.state !== 'answered') {", "if (onChain.state === 'none') {"],
    [node, '^3: '],
  ),

  // 4: the quote was "verified" by a URL; no measurement, TCB status or debug bit was checked
  {
    point: 4,
    removes: 'the trust root, and that it issued the intermediate',
    edits: [
      {
        file: CHAINS,
        find: 'if (blocks[length - 1] !== trustRoot.pem) {',
        replace: 'if (blocks.length === 0) {',
      },
      {
        file: CHAINS,
        find: '  if (known === undefined) requireIssued(intermediate, root, name);\n',
        replace: '',
      },
    ],
    test: { file: node, name: '^4: .*PCK_CHAIN_ROOT' },
  },
  one(
    4,
    'the comparison of the root alone',
    [CHAINS, 'if (blocks[length - 1] !== trustRoot.pem) {', 'if (blocks.length === 0) {'],
    [node, '^4: .*PCK_CHAIN_ROOT'],
  ),
  one(
    4,
    'Intel’s revocations',
    [INTEL_RULES, '  requireUnrevokedChain(chain, rootCrl, pckCrl);\n', ''],
    [node, '^4: .*PCK_REVOKED'],
  ),
  one(
    4,
    'the quoting enclave’s signature',
    [
      INTEL_RULES,
      "if (!pck.publicKey.verify(qeReport.raw, qeReportSignature, 'r-s')) {",
      'if (qeReport.raw.length === 0) {',
    ],
    [node, '^4: .*QE_REPORT_SIGNATURE'],
  ),
  one(
    4,
    'the attestation key’s binding',
    [INTEL_RULES, 'if (!bytesEqual(qeReport.reportData, expected)) {', 'if (expected.length === 0) {'],
    [node, '^4: .*QE_REPORT_BINDING'],
  ),
  one(
    4,
    'the quote’s signature',
    [INTEL_RULES, '  requireQuoteSignature(quote, attestationKey);\n', ''],
    [node, '^4: .*QUOTE_SIGNATURE'],
  ),
  one(
    4,
    'the TCB’s status',
    [POLICY, '  requireStatus(finding, policy, now);\n', ''],
    [node, '^4: .*TCB_STATUS_NOT_ACCEPTED'],
  ),
  one(
    4,
    'the debug and migration bits',
    [POLICY, '  requireAttributes(finding.quote.body, policy);\n', ''],
    [node, '^4: .*TD_(DEBUG|MIGRATABLE)'],
  ),
  one(
    4,
    'RTMR3',
    [VERIFY, '  requireRtmr3(evidence.registers.rtmr3, expected.rtmr3);\n', ''],
    [node, '^4: .*RTMR3_MISMATCH'],
  ),
  one(
    4,
    'the report data',
    [VERIFY, '  requireReportData(evidence.reportData, expected.reportData);\n', ''],
    [node, '^4: .*REPORT_DATA_MISMATCH'],
  ),
  one(
    4,
    'the measurement',
    [NETWORK_POLICY, 'if (!allowed.measurementAllowed)', 'if (allowed === undefined)'],
    [node, '^4: .*MEASUREMENT_NOT_ALLOWED'],
  ),
  one(
    4,
    'the platform',
    [NETWORK_POLICY, 'if (!allowed.platformAllowed)', 'if (allowed === undefined)'],
    [node, '^4: .*PLATFORM_NOT_ALLOWED'],
  ),
  one(
    4,
    'the contract’s TCB policy',
    [ONBOARD, '  await applyNetworkPolicy(reader, finding, now, head);\n', ''],
    [node, '^4: .*TCB_STATUS_NOT_ACCEPTED'],
  ),

  // 5: `ecrecover` returning 0 matched an unset key
  one(
    5,
    'the refusal of a signature that recovers nothing',
    [
      CONTRACT,
      'ECDSA.recover(_hashTypedDataV4(structHash), r, vs);',
      'ecrecover(_hashTypedDataV4(structHash), 27 + uint8(uint256(vs) >> 255), r, (vs << 1) >> 1);',
    ],
    [contract, '^5: '],
  ),
  {
    point: 5,
    removes: 'the same in verifyAttestation',
    edits: [
      {
        file: CONTRACT,
        find: 'problem == ECDSA.RecoverError.NoError && signer != address(0) && signer == _core.networkKey',
        replace: 'signer == _core.networkKey',
      },
      {
        file: CONTRACT,
        find: '(address signer, ECDSA.RecoverError problem,) =',
        replace: '(address signer,,) =',
      },
    ],
    test: { file: contract, name: '^5: a signature' },
  },
  one(
    5,
    'register’s refusal before bootstrap',
    [CONTRACT, '        if (epoch == 0) revert NotBootstrapped();\n', ''],
    [contract, '^5: a signature'],
  ),

  // 6: bootstrap could be repeated; onboard could be replayed, for addresses that never asked
  one(
    6,
    'the end of bootstrap',
    [CONTRACT, '        if (_core.stage == Stage.Onboarded) revert BootstrapClosed();\n', ''],
    [contract, '^6: bootstrap'],
  ),
  one(
    6,
    'the owner’s right to bootstrap',
    [
      CONTRACT,
      'external onlyOwner {\n        if (_core.stage == Stage.Onboarded)',
      'external {\n        if (_core.stage == Stage.Onboarded)',
    ],
    [contract, '^6: bootstrap'],
  ),
  one(
    6,
    'onboard’s demand for an open request',
    [CONTRACT, '        if (slot & STATE_MASK != OPEN) revert RequestNotOpen(requestHash);\n', ''],
    [contract, '^6: an onboarding is'],
  ),
  one(
    6,
    'a request’s end',
    [CONTRACT, 'if (_isExpired(slot, epoch)) revert', 'if (slot == 1 && _isExpired(slot, epoch)) revert'],
    [contract, '^6: an onboarding is'],
  ),
  one(
    6,
    'a request’s epoch',
    [CONTRACT, '|| uint32(slot >> 216) != epoch;', '|| uint32(slot >> 216) > epoch;'],
    [contract, '^6: an onboarding is'],
  ),
  one(
    6,
    'register’s refusal of a request that exists',
    [
      CONTRACT,
      'if (slot != 0 && (slot & STATE_MASK != OPEN || !_isExpired(slot, epoch))) revert',
      'if (slot == 1) revert',
    ],
    [contract, '^6: an onboarding is'],
  ),
  one(
    6,
    'the onboarder’s look at the request’s state',
    [ONBOARD, "if (onChain.state !== 'open') {", "if (onChain.state === 'expired') {"],
    [node, '^6: '],
  ),

  // 7: digests named no chain and no contract; `tag ‖ data` was ambiguous; any app could use any tag
  {
    point: 7,
    removes: 'chain and contract in an attestation’s digest (both sides)',
    edits: [
      {
        file: CONTRACT,
        find: 'ECDSA.tryRecover(_hashTypedDataV4(structHash), v, r, s)',
        replace: 'ECDSA.tryRecover(structHash, v, r, s)',
      },
      {
        file: TYPED_DATA,
        find: 'return digest(\n    domain,\n    keccak256(\n      ATTESTATION_TYPE,',
        replace:
          'return ((_: Domain, hash: Uint8Array) => hash)(\n    domain,\n    keccak256(\n      ATTESTATION_TYPE,',
      },
    ],
    test: { file: contract, name: '^7: an attestation holds' },
  },
  {
    point: 7,
    removes: 'the border between tag and data (both sides)',
    edits: [
      {
        file: CONTRACT,
        find: 'abi.encode(ATTESTATION_TYPE, app, keccak256(bytes(tag)), keccak256(data))',
        replace: 'abi.encodePacked(ATTESTATION_TYPE, app, tag, data)',
      },
      {
        file: TYPED_DATA,
        find: 'keccak256(utf8(attestation.tag)),\n      keccak256(attestation.data),',
        replace: 'utf8(attestation.tag),\n      attestation.data,',
      },
    ],
    test: { file: contract, name: '^7: app, tag and data' },
  },
  one(
    7,
    'the lengths in a key’s path',
    [
      KEYS,
      'lengthPrefixed([utf8(purpose), uint64(epoch), ...path])',
      'Buffer.concat([utf8(purpose), uint64(epoch), ...path])',
    ],
    [contract, '^7: keys'],
  ),
  one(
    7,
    'the app in its keys’ path',
    [KEYS, '[utf8(app), utf8(tag)]', '[utf8(tag)]'],
    [contract, '^7: keys'],
  ),
  one(
    7,
    'chain and contract in a request’s quote',
    [
      'lib/protocol/report-data.ts',
      'uint64(report.chainId),\n      fromHex(report.contract, 20),\n      fromHex(report.node, 20),',
      'fromHex(report.node, 20),',
    ],
    [node, '^7: a quote .* (chain|contract) '],
  ),
  one(
    7,
    'the onboarder’s look at chain and contract',
    [ONBOARD, '  requireThisNetwork(identity, message);\n', ''],
    [node, '^7: a request signed'],
  ),

  // 8: the root filesystem was writable and unmeasured; the documented demo had a root password
  one(
    8,
    'root’s locked password',
    [`${ROOTFS}/shadow`, 'root:!*:1::::::', 'root::1::::::'],
    [machine, '^8: nobody'],
  ),
  one(
    8,
    'root’s missing shell',
    [`${ROOTFS}/passwd`, 'root:x:0:0:root:/root:/usr/sbin/nologin', 'root:x:0:0:root:/root:/usr/bin/bash'],
    [machine, '^8: nobody'],
  ),
  one(
    8,
    'the absence of a shell',
    ['guest/image/guest-contents.ts', "  'usr/bin/kmod',\n", "  'usr/bin/kmod',\n  'usr/bin/dash',\n"],
    [machine, '^8: nobody'],
  ),
  one(8, 'the panic on a changed block', [INIT, ' 1 panic_on_corruption"', '"'], [machine, '^8: the root']),
  one(
    8,
    'the read-only mount',
    [INIT, 'erofs -o ro,nodev /dev/dm-0', 'erofs -o nodev /dev/dm-0'],
    [machine, '^8: the root'],
  ),
  one(
    8,
    'the root hash on the command line',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
    ['guest/image/command-line.ts', '    `dstack.roothash=${root.rootHash}`,\n', ''],
    [machine, '^8: the root'],
  ),
  one(
    8,
    'the command line in the measurement',
    ['lib/attestation/simulated-measurement.ts', 'sha384(utf8(boot.commandLine)),', 'sha384(),'],
    [machine, '^8: the root'],
  ),

  // 9: a container archive was trusted by its tag
  one(
    9,
    'the image’s digest',
    ['guest/kubernethes/archive.ts', '  assertConfigDigest(config, digest);\n', ''],
    [machine, '^9: an archive'],
  ),
  one(
    9,
    'the layers’ digests',
    ['guest/kubernethes/archive.ts', '    if (actual !== digest) {', "    if (actual === '') {"],
    [machine, '^9: an archive'],
  ),
  one(
    9,
    'the look at what the engine took in',
    ['guest/kubernethes/deployment.ts', 'if (!(await engine.hasImage(digest))) {', "if (digest === '') {"],
    [machine, '^9: an engine'],
  ),
  one(
    9,
    'containers by digest',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
    ['guest/kubernethes/podman.ts', 'Image: `sha256:${spec.image}`,', 'Image: spec.name,'],
    [machine, '^9: a container'],
  ),

  // 10: one raw secret was every key, and travelled through argv, environment and echo
  one(
    10,
    'the purpose in a key’s path',
    [KEYS, '[utf8(purpose), uint64(epoch), ...path]', '[uint64(epoch), ...path]'],
    [machine, '^10: no two uses'],
  ),
  one(
    10,
    'the disk’s key off the command line',
    [
      SYSTEM,
      "['create', '--noudevrules', '--noudevsync', name]",
      "['create', '--noudevrules', '--noudevsync', name, '--table', table]",
    ],
    [machine, '^10: a key goes'],
  ),
  one(
    10,
    'silence about keys in the log',
    [
      'guest/replicator/node.ts',
      "networkKey: keys.networkKey }, 'joined'",
      "networkKey: keys.networkKey, tls: toHex(keys.tlsKey()) }, 'joined'",
    ],
    [node, '^10: '],
  ),
  one(10, 'wiping the secret', [SECRET, '      secret.fill(0);\n', ''], [machine, '^10: a wiped']),
  one(
    10,
    'the end of a wiped secret’s use',
    [SECRET, "    if (wiped) throw new Error('the secret was wiped');\n", ''],
    [machine, '^10: a wiped'],
  ),
  one(
    10,
    'no core file of the replicator',
    ['guest/image/rootfs/usr/lib/systemd/system/dstack-replicator.service', 'LimitCORE=0\n', ''],
    [machine, '^10: no daemon'],
  ),

  // 11: a missing LUKS header meant "format"
  one(
    11,
    'opening a disk of ours when `create` is asked for',
    [DISK, 'const format = isBlank(start) && options.mayCreate;', 'const format = options.mayCreate;'],
    [disk, '^11: a disk of ours'],
  ),
  {
    point: 11,
    removes: 'formatting only what is blank',
    edits: [
      {
        file: DISK,
        find: 'const format = isBlank(start) && options.mayCreate;',
        replace: 'const format = options.mayCreate;',
      },
      { file: DISK, find: 'if (!isBlank(start) || !options.mayCreate)', replace: 'if (!options.mayCreate)' },
    ],
    test: { file: disk, name: '^11: .create. formats' },
  },
  {
    point: 11,
    removes: 'formatting only when told to',
    edits: [
      {
        file: DISK,
        find: 'const format = isBlank(start) && options.mayCreate;',
        replace: 'const format = isBlank(start);',
      },
      { file: DISK, find: 'if (!isBlank(start) || !options.mayCreate)', replace: 'if (!isBlank(start))' },
    ],
    test: { file: disk, name: '^11: a disk without' },
  },
  one(
    11,
    'looking at the whole first MiB',
    [
      'guest/disk/superblock.ts',
      'return start.every((byte) => byte === 0);',
      'return start.subarray(0, 512).every((byte) => byte === 0);',
    ],
    [disk, '^11: .create. formats'],
  ),
  one(
    11,
    'the header’s MAC',
    [
      'guest/disk/superblock.ts',
      '!timingSafeEqual(mac(bytes.subarray(0, SUPERBLOCK_BYTES), macKey), bytes.subarray(MAC_AT, HEADER_BYTES))',
      '!timingSafeEqual(macKey, macKey)',
    ],
    [disk, '^11: a (header|disk of another)'],
  ),
  one(
    11,
    'the disk’s length',
    [DISK, 'if (superblock.areaSectors > areaSectorsOf(disk.bytes)) {', 'if (superblock.areaSectors < 0) {'],
    [disk, '^11: a disk of another'],
  ),

  // 12: the TLS certificate was any file that the host wrote, forever
  one(
    12,
    'the key from the network’s secret',
    [
      'guest/tls/main.ts',
      'privateKey: fromHex(privateKey, 32),',
      "privateKey: new Uint8Array(readFileSync(at('mnt/host_volume/tls.key'))),",
    ],
    [node, '^12: '],
  ),
  one(
    12,
    'the certificate’s end',
    ['guest/tls/certificate.ts', 'time(builtAt + TEN_YEARS)', 'time(253_402_300_799)'],
    [node, '^12: '],
  ),
  one(
    12,
    'that all nodes show the same certificate',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
    ['guest/tls/certificate.ts', '.update(`${builtAt}`)', '.update(String(Math.random()))'],
    [node, '^12: '],
  ),

  // 13: one bad gossip message killed the relay; late subscribers never saw a request
  one(
    13,
    'dropping one message instead of the batch',
    [
      HTTP_GOSSIP,
      '      if (error instanceof Retryable) throw error;\n      return false;',
      '      throw error;',
    ],
    [gossip, '^13: a peer’s bad'],
  ),
  one(
    13,
    'the schema of a message',
    [
      HTTP_GOSSIP,
      "check(GossipMessageSchema, value, 'GOSSIP_MALFORMED', 'a gossip message')",
      'value as GossipMessage',
    ],
    [gossip, '^13: bad messages'],
  ),
  one(
    13,
    'the backlog for who polls late',
    [
      HTTP_GOSSIP,
      'const batch = this.log.after(after, BATCH);',
      'const batch = this.log.after(this.log.last, BATCH);',
    ],
    [gossip, '^13: a relay that starts'],
  ),
  one(
    13,
    'the backlog for who subscribes late',
    [HTTP_GOSSIP, '      batch.length > 0;\n', '      false;\n'],
    ['host/gossip/http-gossip.test.ts', '^a late subscriber'],
  ),
];
