/** Points 5, 6 and 7: signatures, replays and what a digest names. */
import { type Mutation, one } from '../mutation.ts';

const node = 'test/trust/node.test.ts';
const contract = 'test/trust/contract.test.ts';
const CONTRACT = 'contracts/Network.sol';
const ONBOARD = 'guest/replicator/onboard.ts';
const KEYS = 'lib/protocol/keys.ts';
const TYPED_DATA = 'lib/protocol/typed-data.ts';

export const contractRules: readonly Mutation[] = [
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
    removes: "verifyAttestation's refusal of a signature that recovers nothing",
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
    "register's refusal before bootstrap",
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
    "the owner's right to bootstrap",
    [
      CONTRACT,
      'external onlyOwner {\n        if (_core.stage == Stage.Onboarded)',
      'external {\n        if (_core.stage == Stage.Onboarded)',
    ],
    [contract, '^6: bootstrap'],
  ),
  one(
    6,
    "onboard's demand for an open request",
    [CONTRACT, '        if (slot & STATE_MASK != OPEN) revert RequestNotOpen(requestHash);\n', ''],
    [contract, '^6: an onboarding is'],
  ),
  one(
    6,
    "a request's end",
    [CONTRACT, 'if (_isExpired(slot, epoch)) revert', 'if (slot == 1 && _isExpired(slot, epoch)) revert'],
    [contract, '^6: an onboarding is'],
  ),
  one(
    6,
    "a request's epoch",
    [CONTRACT, '|| uint32(slot >> 216) != epoch;', '|| uint32(slot >> 216) > epoch;'],
    [contract, '^6: an onboarding is'],
  ),
  one(
    6,
    "register's refusal of a request that exists",
    [
      CONTRACT,
      'if (slot != 0 && (slot & STATE_MASK != OPEN || !_isExpired(slot, epoch))) revert',
      'if (slot == 1) revert',
    ],
    [contract, '^6: an onboarding is'],
  ),
  one(
    6,
    "the onboarder's look at the request's state",
    [ONBOARD, "if (onChain.state !== 'open') {", "if (onChain.state === 'expired') {"],
    [node, '^6: '],
  ),

  // 7: digests named no chain and no contract; `tag ‖ data` was ambiguous; any app could use any tag
  {
    point: 7,
    removes: "chain and contract in an attestation's digest (both sides)",
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
    "the lengths in a key's path",
    [
      KEYS,
      'lengthPrefixed([utf8(purpose), uint64(epoch), ...path])',
      'Buffer.concat([utf8(purpose), uint64(epoch), ...path])',
    ],
    [contract, '^7: keys'],
  ),
  one(
    7,
    "the app in its keys' path",
    [KEYS, '[utf8(app), utf8(tag)]', '[utf8(tag)]'],
    [contract, '^7: keys'],
  ),
  one(
    7,
    "chain and contract in a request's quote",
    [
      'lib/protocol/report-data.ts',
      'uint64(report.chainId),\n      fromHex(report.contract, 20),\n      fromHex(report.node, 20),',
      'fromHex(report.node, 20),',
    ],
    [node, '^7: a quote .* (chain|contract) '],
  ),
  one(
    7,
    "the onboarder's look at chain and contract",
    [
      ONBOARD,
      '  requireThisNetwork(identity, message);\n  await requireOpenOnChain(',
      '  await requireOpenOnChain(',
    ],
    [node, '^7: a request signed'],
  ),
];
