/**
 * The contract with one defence taken away, or one edge moved by one: each a way in which a rewrite could go wrong. What
 * has to notice is the contract's fuzz; a fuzz that does not would not notice the real thing.
 */
import { FUZZ, type Mutation } from '../mutation.ts';
import { contractRules } from './contract.ts';

const NETWORK = 'contracts/Network.sol';

const mutant = (removes: string, ...changes: readonly (readonly [string, string])[]): Mutation => ({
  point: 'fuzz',
  removes,
  edits: changes.map(([find, replace]) => ({ file: NETWORK, find, replace })),
  test: FUZZ,
});

export const fuzzRules: readonly Mutation[] = [
  // What a test sees is asked of the fuzz too.
  ...contractRules
    .filter(({ edits }) => edits.every(({ file }) => file === NETWORK))
    .map((rule): Mutation => ({ ...rule, point: 'fuzz', test: FUZZ })),
  mutant('bootstrap takes any hash of a known block', [
    '(known != 0 && known != blockHash)',
    '(known == blockHash && known == 0)',
  ]),
  mutant('bootstrap of what is not allowed', [
    '_requireAllowed(measurement, config, platform);\n\n        uint32',
    'uint32',
  ]),
  mutant('bootstrap leaves the epoch', [
    'uint32 epoch = _core.epoch + 1;',
    'uint32 epoch = _core.epoch == 0 ? 1 : _core.epoch;',
  ]),
  mutant('a registration nobody signed', ['_requireSigner(node, requestHash, r, vs);\n', '']),
  mutant('an answered request is registered again', [
    '(slot & STATE_MASK != OPEN || !_isExpired(slot, epoch))',
    '(slot & STATE_MASK == OPEN && !_isExpired(slot, epoch))',
  ]),
  mutant('an open request is registered again', [
    '(slot & STATE_MASK != OPEN || !_isExpired(slot, epoch))',
    'slot & STATE_MASK != OPEN',
  ]),
  mutant('an answer without a request', [
    'if (slot & STATE_MASK != OPEN) revert',
    'if (slot & STATE_MASK == ANSWERED) revert',
  ]),
  mutant('a request is answered twice', ['if (slot & STATE_MASK != OPEN) revert', 'if (slot == 0) revert']),
  mutant('requests expire a block early', [
    'block.number > uint256(uint48',
    'block.number >= uint256(uint48',
  ]),
  mutant('onboard of what is not allowed', [
    '_requireAllowed(measurement, config, platform);\n\n        address',
    'address',
  ]),
  mutant('onboard does not close bootstrap', [
    'if (stage != Stage.Onboarded) _core.stage = Stage.Onboarded;',
    'if (stage == Stage.Onboarded) _core.stage = stage;',
  ]),
  mutant('bad signatures recover zero', [
    'address signer = ECDSA.recover(_hashTypedDataV4(structHash), r, vs);',
    '(address signer,,) = ECDSA.tryRecover(_hashTypedDataV4(structHash), r, vs);',
  ]),
  mutant('whoever signed will do', ['if (signer != expected) revert', 'if (signer == address(0)) revert']),
  mutant('nothing waits', ['_core.epoch == 0 ? 0 : _delayNow()', '_core.epoch == 0 ? 0 : 0']),
  mutant('all waits, before bootstrap too', ['_core.epoch == 0 ? 0 : _delayNow()', '_delayNow()']),
  mutant('loosening is a second late', [
    'from != 0 && block.timestamp >= from',
    'from != 0 && block.timestamp > from',
  ]),
  mutant('a shorter delay holds at once', [
    'bool shortens = _core.epoch != 0 && delay < present;',
    'bool shortens = delay > present && delay < present;',
  ]),
  mutant('a shorter delay is forgotten', ['_core.delayShortens = shortens;', '_core.delayShortens = false;']),
  mutant('a longer delay waits', [
    '_core.epoch != 0 && delay < present',
    '_core.epoch != 0 && delay != present',
  ]),
  mutant('a revoked measurement stays', ['delete list[value];', 'list[value] = 1;']),
  mutant('a revoked platform joins while open', [
    '_platforms[platform] = REVOKED;',
    'delete _platforms[platform];',
  ]),
  mutant('a revoked platform is back at once', ['listed == 0 && _platformsOpenNow()', '_platformsOpenNow()']),
  mutant('listing shuts an open platform out', [
    'listed == 0 && _platformsOpenNow()',
    'listed != 0 && _platformsOpenNow()',
  ]),
  mutant('platforms stay open', ['_core.platformsOpen = false;\n', '']),
  mutant('platforms open at once', [
    'return _core.platformsOpen && block.timestamp >= _later.platformsOpenFrom;',
    'return _core.platformsOpen;',
  ]),
  mutant('a rollout is in force at once', [
    'uint64 from = _loosensFrom();\n        stored.manifests',
    'uint64 from = uint64(block.timestamp);\n        stored.manifests',
  ]),
  mutant('a pending rollout counts as previous', [
    'if (stored.hasLatest && block.timestamp >= stored.from) {\n            latest',
    'if (stored.hasLatest) {\n            latest',
  ]),
  mutant('rolled back for ever', [
    '(uint64(block.timestamp), latest, false);',
    '(uint64(block.timestamp), latest, true);',
  ]),
  mutant('withdrawn but for the previous one', [
    '(stored.hasLatest, stored.hasPrevious) = (false, false);',
    'stored.hasLatest = false;',
  ]),
  mutant('a lower minimum holds at once', [
    'tcbEvaluationDataNumber > present ? tcbEvaluationDataNumber : present',
    'tcbEvaluationDataNumber',
  ]),
  mutant('a higher minimum waits', [
    'tcbEvaluationDataNumber > present ? tcbEvaluationDataNumber : present',
    'tcbEvaluationDataNumber < present ? tcbEvaluationDataNumber : present',
  ]),
  mutant('more statuses hold at once', [
    '_valueNow(_tcbStatuses) & statuses, statuses',
    'statuses, statuses',
  ]),
  mutant('fewer statuses wait for more', [
    '_valueNow(_tcbStatuses) & statuses, statuses',
    '_valueNow(_tcbStatuses) & statuses == statuses ? statuses : _valueNow(_tcbStatuses), statuses',
  ]),
  mutant('Revoked may be accepted', ['ACCEPTABLE_STATUSES = 0x1bf', 'ACCEPTABLE_STATUSES = 0x1ff']),
  mutant('UpToDate may be left out', ['statuses & UP_TO_DATE != 0 && ', '']),
  mutant('unknown statuses', [' && statuses & ~ACCEPTABLE_STATUSES == 0', '']),
  mutant('a network begins with all statuses', [
    '_setTcbStatuses(UP_TO_DATE)',
    '_setTcbStatuses(ACCEPTABLE_STATUSES)',
  ]),
  mutant('a longer grace period holds at once', [
    'gracePeriod < present ? gracePeriod : present',
    'gracePeriod',
  ]),
  mutant('a shorter grace period waits', ['gracePeriod < present ? gracePeriod : present', 'present']),
  mutant('any grace period', ['gracePeriod > LONGEST_GRACE_PERIOD', 'gracePeriod > type(uint32).max']),
  mutant('no part of the TCB policy waits', [
    'stricter == value ? uint64(block.timestamp) : _loosensFrom()',
    'uint64(block.timestamp)',
  ]),
  mutant('a tightened TCB policy leaves what was to loosen it', [
    '(setting.before, setting.set, setting.from) = (stricter, value, from);',
    'setting.before = stricter;\n        if (stricter != value || block.timestamp >= setting.from) (setting.set, setting.from) = (value, from);',
  ]),
  mutant('the TCB policy is a second late', [
    'block.timestamp >= setting.from',
    'block.timestamp > setting.from',
  ]),
  mutant('anyone denies an FMSPC', ['bool denied) external onlyOwner', 'bool denied) external']),
  mutant('a denied FMSPC is back at once', [
    'uint64 from = _loosensFrom();\n            _deniedFmspcs',
    'uint64 from = uint64(block.timestamp);\n            _deniedFmspcs',
  ]),
  mutant('an FMSPC is denied a second too long', [
    'block.timestamp < _deniedFmspcs[fmspc]',
    'block.timestamp <= _deniedFmspcs[fmspc]',
  ]),
  mutant('denying an FMSPC again cancels nothing', [
    'if (until == FOREVER) revert FmspcAlreadyDenied',
    'if (until > block.timestamp) revert FmspcAlreadyDenied',
  ]),
  mutant('allowing an FMSPC again begins its time anew', [
    'if (until != FOREVER) revert FmspcNotDenied',
    'if (until == 0) revert FmspcNotDenied',
  ]),
  mutant('an FMSPC is listed twice', ['if (until == 0) _fmspcList.push', '_fmspcList.push']),
  mutant('any app name', ['_requireAppName(app);\n', '']),
  ...[
    // No sequence has to come along for these: a test reads the deployed bytes.
    mutant('the network calls its owner', [
      '_core.platformsOpen = true;',
      '_core.platformsOpen = true;\n        (bool ok,) = msg.sender.call("");\n        if (!ok) revert PlatformsNotOpen();',
    ]),
    mutant('the owner is whoever began the transaction', [
      '    /// @notice Always refused.\n',
      '    function _msgSender() internal view override returns (address) {\n        return tx.origin;\n    }\n\n    /// @notice Always refused.\n',
    ]),
  ].map(
    (rule): Mutation => ({
      ...rule,
      test: { file: 'contracts/fuzz.test.ts', name: '^the network calls nobody' },
    }),
  ),
];
