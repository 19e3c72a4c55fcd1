/**
 * The contract with one defence taken away, or one edge moved by one: each a way in which a rewrite could go wrong. A fuzz
 * that does not find one of these would not find the real thing.
 */
import { DstackError } from '../../lib/protocol/errors.ts';
import { compileTraceable, networkSource } from '../compile.ts';

export interface Mutant {
  readonly name: string;
  /** Each text has to occur exactly once. */
  readonly changes: readonly (readonly [from: string, to: string])[];
}

const only = (name: string, from: string, to: string): Mutant => ({ name, changes: [[from, to]] });

export const MUTANTS: readonly Mutant[] = [
  only(
    'anyone bootstraps',
    ') external onlyOwner {\n        if (_core.stage',
    ') external {\n        if (_core.stage',
  ),
  only(
    'bootstrap stays open after an onboard',
    'if (_core.stage == Stage.Onboarded) revert BootstrapClosed();',
    '',
  ),
  only(
    'bootstrap takes any hash of a known block',
    '(known != 0 && known != blockHash)',
    '(known == blockHash && known == 0)',
  ),
  only(
    'bootstrap of what is not allowed',
    '_requireAllowed(measurement, config, platform);\n\n        uint32',
    'uint32',
  ),
  only(
    'bootstrap leaves the epoch',
    'uint32 epoch = _core.epoch + 1;',
    'uint32 epoch = _core.epoch == 0 ? 1 : _core.epoch;',
  ),
  only('a registration nobody signed', '_requireSigner(node, requestHash, r, vs);\n', ''),
  only(
    'an answered request is registered again',
    '(slot & STATE_MASK != OPEN || !_isExpired(slot, epoch))',
    '(slot & STATE_MASK == OPEN && !_isExpired(slot, epoch))',
  ),
  only(
    'an open request is registered again',
    '(slot & STATE_MASK != OPEN || !_isExpired(slot, epoch))',
    'slot & STATE_MASK != OPEN',
  ),
  only(
    'an answer without a request',
    'if (slot & STATE_MASK != OPEN) revert',
    'if (slot & STATE_MASK == ANSWERED) revert',
  ),
  only('a request is answered twice', 'if (slot & STATE_MASK != OPEN) revert', 'if (slot == 0) revert'),
  only(
    'an expired request is answered',
    'if (_isExpired(slot, epoch)) revert RequestExpired(requestHash);',
    '',
  ),
  only('requests expire a block early', 'block.number > uint256(uint48', 'block.number >= uint256(uint48'),
  only('requests outlive their epoch', '|| uint32(slot >> 216) != epoch', '|| uint32(slot >> 216) > epoch'),
  only(
    'onboard of what is not allowed',
    '_requireAllowed(measurement, config, platform);\n\n        address',
    'address',
  ),
  only(
    'onboard does not close bootstrap',
    'if (stage != Stage.Onboarded) _core.stage = Stage.Onboarded;',
    'if (stage == Stage.Onboarded) _core.stage = stage;',
  ),
  only(
    'bad signatures recover zero',
    'address signer = ECDSA.recover(_hashTypedDataV4(structHash), r, vs);',
    '(address signer,,) = ECDSA.tryRecover(_hashTypedDataV4(structHash), r, vs);',
  ),
  only('whoever signed will do', 'if (signer != expected) revert', 'if (signer == address(0)) revert'),
  {
    name: 'everything is attested before bootstrap',
    changes: [
      ['(address signer, ECDSA.RecoverError problem,) =', '(address signer,,) ='],
      ['problem == ECDSA.RecoverError.NoError && signer != address(0) && signer', 'signer'],
    ],
  },
  only('nothing waits', '_core.epoch == 0 ? 0 : _delayNow()', '_core.epoch == 0 ? 0 : 0'),
  only('all waits, before bootstrap too', '_core.epoch == 0 ? 0 : _delayNow()', '_delayNow()'),
  only(
    'loosening is a second late',
    'from != 0 && block.timestamp >= from',
    'from != 0 && block.timestamp > from',
  ),
  only(
    'a shorter delay holds at once',
    'bool shortens = _core.epoch != 0 && delay < present;',
    'bool shortens = delay > present && delay < present;',
  ),
  only('a shorter delay is forgotten', '_core.delayShortens = shortens;', '_core.delayShortens = false;'),
  only('a longer delay waits', '_core.epoch != 0 && delay < present', '_core.epoch != 0 && delay != present'),
  only('a revoked measurement stays', 'delete list[value];', 'list[value] = 1;'),
  only(
    'a revoked platform joins while open',
    '_platforms[platform] = REVOKED;',
    'delete _platforms[platform];',
  ),
  only('a revoked platform is back at once', 'listed == 0 && _platformsOpenNow()', '_platformsOpenNow()'),
  only(
    'listing shuts an open platform out',
    'listed == 0 && _platformsOpenNow()',
    'listed != 0 && _platformsOpenNow()',
  ),
  only('platforms stay open', '_core.platformsOpen = false;\n', ''),
  only(
    'platforms open at once',
    'return _core.platformsOpen && block.timestamp >= _later.platformsOpenFrom;',
    'return _core.platformsOpen;',
  ),
  only(
    'a rollout is in force at once',
    'uint64 from = _loosensFrom();\n        stored.manifests',
    'uint64 from = uint64(block.timestamp);\n        stored.manifests',
  ),
  only(
    'a pending rollout counts as previous',
    'if (stored.hasLatest && block.timestamp >= stored.from) {\n            latest',
    'if (stored.hasLatest) {\n            latest',
  ),
  only(
    'rolled back for ever',
    '(uint64(block.timestamp), latest, false);',
    '(uint64(block.timestamp), latest, true);',
  ),
  only(
    'withdrawn but for the previous one',
    '(stored.hasLatest, stored.hasPrevious) = (false, false);',
    'stored.hasLatest = false;',
  ),
  only(
    'a lower minimum holds at once',
    'tcbEvaluationDataNumber > present ? tcbEvaluationDataNumber : present',
    'tcbEvaluationDataNumber',
  ),
  only(
    'a higher minimum waits',
    'tcbEvaluationDataNumber > present ? tcbEvaluationDataNumber : present',
    'tcbEvaluationDataNumber < present ? tcbEvaluationDataNumber : present',
  ),
  only('more statuses hold at once', '_valueNow(_tcbStatuses) & statuses, statuses', 'statuses, statuses'),
  only(
    'fewer statuses wait for more',
    '_valueNow(_tcbStatuses) & statuses, statuses',
    '_valueNow(_tcbStatuses) & statuses == statuses ? statuses : _valueNow(_tcbStatuses), statuses',
  ),
  only('Revoked may be accepted', 'ACCEPTABLE_STATUSES = 0x1bf', 'ACCEPTABLE_STATUSES = 0x1ff'),
  only('UpToDate may be left out', 'statuses & UP_TO_DATE != 0 && ', ''),
  only('unknown statuses', ' && statuses & ~ACCEPTABLE_STATUSES == 0', ''),
  only(
    'a network begins with all statuses',
    '_setTcbStatuses(UP_TO_DATE)',
    '_setTcbStatuses(ACCEPTABLE_STATUSES)',
  ),
  only('a longer grace period holds at once', 'gracePeriod < present ? gracePeriod : present', 'gracePeriod'),
  only('a shorter grace period waits', 'gracePeriod < present ? gracePeriod : present', 'present'),
  only('any grace period', 'gracePeriod > LONGEST_GRACE_PERIOD', 'gracePeriod > type(uint32).max'),
  only(
    'no part of the TCB policy waits',
    'stricter == value ? uint64(block.timestamp) : _loosensFrom()',
    'uint64(block.timestamp)',
  ),
  only(
    'a tightened TCB policy leaves what was to loosen it',
    '(setting.before, setting.set, setting.from) = (stricter, value, from);',
    'setting.before = stricter;\n        if (stricter != value || block.timestamp >= setting.from) (setting.set, setting.from) = (value, from);',
  ),
  only(
    'the TCB policy is a second late',
    'block.timestamp >= setting.from',
    'block.timestamp > setting.from',
  ),
  only('anyone denies an FMSPC', 'bool denied) external onlyOwner', 'bool denied) external'),
  only(
    'a denied FMSPC is back at once',
    'uint64 from = _loosensFrom();\n            _deniedFmspcs',
    'uint64 from = uint64(block.timestamp);\n            _deniedFmspcs',
  ),
  only(
    'an FMSPC is denied a second too long',
    'block.timestamp < _deniedFmspcs[fmspc]',
    'block.timestamp <= _deniedFmspcs[fmspc]',
  ),
  only(
    'denying an FMSPC again cancels nothing',
    'if (until == FOREVER) revert FmspcAlreadyDenied',
    'if (until > block.timestamp) revert FmspcAlreadyDenied',
  ),
  only(
    'allowing an FMSPC again begins its time anew',
    'if (until != FOREVER) revert FmspcNotDenied',
    'if (until == 0) revert FmspcNotDenied',
  ),
  only('an FMSPC is listed twice', 'if (until == 0) _fmspcList.push', '_fmspcList.push'),
  only('any app name', '_requireAppName(app);\n', ''),
  only(
    'the network calls its owner',
    '_core.platformsOpen = true;',
    '_core.platformsOpen = true;\n        (bool ok,) = msg.sender.call("");\n        if (!ok) revert PlatformsNotOpen();',
  ),
];

/**
 * Creation code of a mutant, `0x` hex; unoptimised, which compiles faster.
 *
 * @throws DstackError `MUTANT_STALE` when the contract no longer has the text that it changes
 */
export function mutantBytecode({ name, changes }: Mutant): string {
  const source = changes.reduce((text, [from, to]) => {
    if (text.split(from).length !== 2) {
      throw new DstackError(
        'MUTANT_STALE',
        `"${name}" changes text that is not once in Network.sol: ${from}`,
      );
    }
    return text.replace(from, () => to);
  }, networkSource());
  return `0x${compileTraceable({ optimized: false, source }).creation.object}`;
}
