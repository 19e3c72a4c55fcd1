// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {INetwork} from "./INetwork.sol";

/// @title Network
/// @notice See INetwork for what everything means. Here is how it is stored, because storage is what gas pays for:
/// register writes one new slot and reads one; onboard rewrites that slot and reads four; a rollout from an app's third
/// on rewrites two and reads two.
contract Network is INetwork, Ownable2Step, EIP712 {
    bytes32 private constant REQUEST_TYPE = keccak256(
        "Request(address node,bytes32 kemKeyHash,bytes32 quoteHash,uint64 blockNumber,bytes32 blockHash,bytes32 config,uint64 epoch)"
    );
    bytes32 private constant ONBOARD_TYPE = keccak256(
        "Onboard(address node,bytes32 requestHash,bytes32 measurement,bytes32 config,bytes32 platform,bytes32 answerHash)"
    );
    bytes32 private constant BOOTSTRAP_TYPE = keccak256(
        "Bootstrap(address networkKey,bytes32 measurement,bytes32 config,bytes32 platform,bytes32 quoteHash,uint64 blockNumber,bytes32 blockHash,uint64 epoch)"
    );
    bytes32 private constant ATTESTATION_TYPE = keccak256("Attestation(bytes32 app,string tag,bytes data)");

    uint32 private constant LONGEST_DELAY = 365 days;
    /// In one call of `appsAfter`: two storage reads each, some 12 million gas together, which every endpoint gives a call.
    uint256 private constant NAMES_LOOKED_AT = 2000;
    /// What a revoked platform holds instead of a time: it never comes, and it differs from "not listed".
    uint64 private constant REVOKED = type(uint64).max;
    /// Until when an FMSPC is denied that nobody has allowed again.
    uint64 private constant FOREVER = type(uint64).max;

    // Bits by Intel's statuses, in the order that INetwork gives. A policy without UpToDate is a mistake, such as an index
    // that was given for a mask; one with Revoked (bit 6) would let in what Intel says is broken.
    uint16 private constant UP_TO_DATE = 1 << 0;
    uint16 private constant ACCEPTABLE_STATUSES = 0x1bf;
    uint32 private constant LONGEST_GRACE_PERIOD = 3650 days;

    // The low byte of a request's slot is its state. Open: node in bits 8..167, block 168..215, epoch 216..247.
    // Answered: the other 248 bits are the top ones of the answer's hash.
    uint256 private constant OPEN = uint256(RequestState.Open);
    uint256 private constant ANSWERED = uint256(RequestState.Answered);
    uint256 private constant STATE_MASK = 0xff;

    /// None stands for "not constructed"; that a deployed network is not all zero makes bootstrap an update of a slot,
    /// which costs a quarter of a new one.
    enum Stage {
        None,
        Deployed,
        Bootstrapped,
        Onboarded
    }

    /// All that register, onboard and rollout need, in one slot. The two flags say whether `Later` has to be read.
    struct Core {
        address networkKey;
        uint32 epoch;
        Stage stage;
        uint32 delay;
        bool delayShortens;
        bool platformsOpen;
    }

    /// Times that only matter while a flag of Core says so.
    struct Later {
        uint32 delay;
        uint64 delayFrom;
        uint64 platformsOpenFrom;
    }

    /// Two manifests take turns, so that a rollout writes one of them. `latest` says which; the other is the previous one
    /// if `hasPrevious`, and then it was in force until `from`. `hasPrevious` implies `hasLatest`.
    struct App {
        uint64 from;
        uint8 latest;
        bool hasLatest;
        bool hasPrevious;
        bool listed;
        bytes32[2] manifests;
    }

    /// One part of the TCB policy: `set` holds from `from` on, `before` until then. Nobody reads these on the way of a
    /// register or an onboard, so each part has a slot of its own and none can disturb another.
    struct Setting {
        uint32 before;
        uint32 set;
        uint64 from;
    }

    uint32 private immutable _requestWindow;

    Core private _core;
    Later private _later;
    mapping(bytes32 requestHash => uint256) private _requests;
    mapping(bytes32 measurement => uint64 from) private _measurements;
    mapping(bytes32 config => uint64 from) private _configs;
    mapping(bytes32 platform => uint64 from) private _platforms;
    mapping(bytes32 app => App) private _apps;
    bytes32[] private _appNames;
    Setting private _tcbMinimum;
    Setting private _tcbStatuses;
    Setting private _tcbGracePeriod;
    mapping(bytes6 fmspc => uint64 until) private _deniedFmspcs;
    bytes6[] private _fmspcList;

    /// @param owner who decides for the network; meant to be a multisig
    /// @param delay seconds that loosening takes once the network is bootstrapped; a year at most
    /// @param requestWindow blocks in which a request can be answered
    constructor(address owner, uint32 delay, uint32 requestWindow) Ownable(owner) EIP712("Dstack", "1") {
        if (requestWindow == 0) revert ZeroRequestWindow();
        _requestWindow = requestWindow;
        _core.stage = Stage.Deployed;
        _setDelay(delay);
        _setTcbStatuses(UP_TO_DATE);
    }

    // ------------------------------------------------- the network's secret

    /// @inheritdoc INetwork
    function bootstrap(
        address networkKey,
        bytes32 measurement,
        bytes32 config,
        bytes32 platform,
        bytes32 quoteHash,
        uint64 blockNumber,
        bytes32 blockHash,
        bytes32 r,
        bytes32 vs
    ) external onlyOwner {
        if (_core.stage == Stage.Onboarded) revert BootstrapClosed();
        bytes32 known = blockhash(blockNumber);
        if (blockNumber >= block.number || (known != 0 && known != blockHash)) revert UnknownBlock(blockNumber);
        _requireAllowed(measurement, config, platform);

        uint32 epoch = _core.epoch + 1;
        _requireSigner(
            networkKey,
            keccak256(
                abi.encode(
                    BOOTSTRAP_TYPE,
                    networkKey,
                    measurement,
                    config,
                    platform,
                    quoteHash,
                    blockNumber,
                    blockHash,
                    epoch
                )
            ),
            r,
            vs
        );

        (_core.networkKey, _core.epoch, _core.stage) = (networkKey, epoch, Stage.Bootstrapped);
        emit Bootstrapped(epoch, networkKey, measurement, config, platform, quoteHash, blockNumber, blockHash);
    }

    /// @inheritdoc INetwork
    function register(
        address node,
        bytes32 kemKeyHash,
        bytes32 quoteHash,
        uint64 blockNumber,
        bytes32 config,
        bytes32 r,
        bytes32 vs
    ) external returns (bytes32 requestHash) {
        uint32 epoch = _core.epoch;
        if (epoch == 0) revert NotBootstrapped();
        bytes32 blockHash = blockhash(blockNumber);
        if (blockHash == 0) revert UnknownBlock(blockNumber);

        requestHash = keccak256(
            abi.encode(REQUEST_TYPE, node, kemKeyHash, quoteHash, blockNumber, blockHash, config, epoch)
        );
        uint256 slot = _requests[requestHash];
        if (slot != 0 && (slot & STATE_MASK != OPEN || !_isExpired(slot, epoch))) revert RequestExists(requestHash);
        _requireSigner(node, requestHash, r, vs);

        _requests[requestHash] = OPEN | (uint256(uint160(node)) << 8) | (block.number << 168) | (uint256(epoch) << 216);
        emit Registered(requestHash, node);
    }

    /// @inheritdoc INetwork
    function onboard(
        bytes32 requestHash,
        bytes32 measurement,
        bytes32 config,
        bytes32 platform,
        bytes32 answerHash,
        bytes32 r,
        bytes32 vs
    ) external {
        (address networkKey, uint32 epoch, Stage stage) = (_core.networkKey, _core.epoch, _core.stage);
        uint256 slot = _requests[requestHash];
        if (slot & STATE_MASK != OPEN) revert RequestNotOpen(requestHash);
        if (_isExpired(slot, epoch)) revert RequestExpired(requestHash);
        _requireAllowed(measurement, config, platform);

        address node = address(uint160(slot >> 8));
        _requireSigner(
            networkKey,
            keccak256(abi.encode(ONBOARD_TYPE, node, requestHash, measurement, config, platform, answerHash)),
            r,
            vs
        );

        _requests[requestHash] = (uint256(answerHash) & ~STATE_MASK) | ANSWERED;
        if (stage != Stage.Onboarded) _core.stage = Stage.Onboarded;
        emit Onboarded(requestHash, measurement, platform);
    }

    // ----------------------------------------------------- who may join

    /// @inheritdoc INetwork
    function allowMeasurement(bytes32 measurement) external onlyOwner {
        emit MeasurementAllowed(measurement, _allow(_measurements, measurement));
    }

    /// @inheritdoc INetwork
    function revokeMeasurement(bytes32 measurement) external onlyOwner {
        _revoke(_measurements, measurement);
        emit MeasurementRevoked(measurement);
    }

    /// @inheritdoc INetwork
    function allowConfig(bytes32 config) external onlyOwner {
        emit ConfigAllowed(config, _allow(_configs, config));
    }

    /// @inheritdoc INetwork
    function revokeConfig(bytes32 config) external onlyOwner {
        _revoke(_configs, config);
        emit ConfigRevoked(config);
    }

    /// @inheritdoc INetwork
    function allowPlatform(bytes32 platform) external onlyOwner {
        if (platform == 0) revert ZeroValue();
        uint64 listed = _platforms[platform];
        if (listed != 0 && listed != REVOKED) revert AlreadyAllowed(platform, listed);
        // What may join anyway is not loosened by listing it; a delay would shut it out for that long.
        bool joinsAnyway = listed == 0 && _platformsOpenNow();
        uint64 from = joinsAnyway ? uint64(block.timestamp) : _loosensFrom();
        _platforms[platform] = from;
        emit PlatformAllowed(platform, from);
    }

    /// @inheritdoc INetwork
    function revokePlatform(bytes32 platform) external onlyOwner {
        if (platform == 0) revert ZeroValue();
        if (_platforms[platform] == REVOKED) revert NotAllowed(platform);
        _platforms[platform] = REVOKED;
        emit PlatformRevoked(platform);
    }

    /// @inheritdoc INetwork
    function openPlatforms() external onlyOwner {
        if (_core.platformsOpen) revert PlatformsAlreadyOpen(_later.platformsOpenFrom);
        uint64 from = _loosensFrom();
        _core.platformsOpen = true;
        _later.platformsOpenFrom = from;
        emit PlatformsOpened(from);
    }

    /// @inheritdoc INetwork
    function closePlatforms() external onlyOwner {
        if (!_core.platformsOpen) revert PlatformsNotOpen();
        _core.platformsOpen = false;
        emit PlatformsClosed();
    }

    /// @inheritdoc INetwork
    function setDelay(uint32 delay) external onlyOwner {
        _setDelay(delay);
    }

    // ---------------------------------------------------------- TCB policy

    /// @inheritdoc INetwork
    function setMinimumTcbEvaluationNumber(uint32 tcbEvaluationDataNumber) external onlyOwner {
        uint32 present = _valueNow(_tcbMinimum);
        uint32 stricter = tcbEvaluationDataNumber > present ? tcbEvaluationDataNumber : present;
        emit MinimumTcbEvaluationNumberSet(tcbEvaluationDataNumber, _set(_tcbMinimum, stricter, tcbEvaluationDataNumber));
    }

    /// @inheritdoc INetwork
    function setAcceptedTcbStatuses(uint16 statuses) external onlyOwner {
        _setTcbStatuses(statuses);
    }

    /// @inheritdoc INetwork
    function setTcbOutOfDateGrace(uint32 gracePeriod) external onlyOwner {
        if (gracePeriod > LONGEST_GRACE_PERIOD) revert GracePeriodTooLong(gracePeriod, LONGEST_GRACE_PERIOD);
        uint32 present = _valueNow(_tcbGracePeriod);
        uint32 stricter = gracePeriod < present ? gracePeriod : present;
        emit TcbOutOfDateGraceSet(gracePeriod, _set(_tcbGracePeriod, stricter, gracePeriod));
    }

    /// @inheritdoc INetwork
    function setDeniedFmspc(bytes6 fmspc, bool denied) external onlyOwner {
        uint64 until = _deniedFmspcs[fmspc];
        if (denied) {
            if (until == FOREVER) revert FmspcAlreadyDenied(fmspc);
            // Once listed, an FMSPC stays in the list: its time is never zero again.
            if (until == 0) _fmspcList.push(fmspc);
            _deniedFmspcs[fmspc] = FOREVER;
            emit FmspcDenied(fmspc);
        } else {
            if (until != FOREVER) revert FmspcNotDenied(fmspc, until);
            uint64 from = _loosensFrom();
            _deniedFmspcs[fmspc] = from;
            emit FmspcAllowed(fmspc, from);
        }
    }

    // ---------------------------------------------------------------- apps

    /// @inheritdoc INetwork
    function rollout(bytes32 app, bytes32 manifestHash) external onlyOwner {
        if (manifestHash == 0) revert ZeroValue();
        App storage stored = _apps[app];
        (uint8 latest, bool hasPrevious) = (stored.latest, stored.hasPrevious);
        if (!stored.listed) {
            _requireAppName(app);
            _appNames.push(app);
        }
        // A pending manifest is written over; one in force stays, as the previous one.
        if (stored.hasLatest && block.timestamp >= stored.from) {
            latest ^= 1;
            hasPrevious = true;
        }
        uint64 from = _loosensFrom();
        stored.manifests[latest] = manifestHash;
        (stored.from, stored.latest, stored.hasLatest, stored.hasPrevious, stored.listed) =
            (from, latest, true, hasPrevious, true);
        emit RolledOut(app, manifestHash, from);
    }

    /// @inheritdoc INetwork
    function rollback(bytes32 app) external onlyOwner {
        App storage stored = _apps[app];
        bool pending = stored.hasLatest && block.timestamp < stored.from;
        if (!stored.hasPrevious && !pending) revert NoPreviousManifest(app);
        // Without a previous one, what is cancelled was the app's first rollout: nothing is left.
        bytes32 manifestHash = 0;
        if (stored.hasPrevious) {
            uint8 latest = stored.latest ^ 1;
            manifestHash = stored.manifests[latest];
            (stored.from, stored.latest, stored.hasPrevious) = (uint64(block.timestamp), latest, false);
        } else {
            stored.hasLatest = false;
        }
        emit RolledBack(app, manifestHash);
    }

    /// @inheritdoc INetwork
    function withdraw(bytes32 app) external onlyOwner {
        App storage stored = _apps[app];
        if (!stored.hasLatest) revert NoManifest(app);
        (stored.hasLatest, stored.hasPrevious) = (false, false);
        emit Withdrawn(app);
    }

    // --------------------------------------------------------------- views

    /// @inheritdoc INetwork
    function network() external view returns (NetworkView memory) {
        return NetworkView({
            networkKey: _core.networkKey,
            epoch: _core.epoch,
            onboarded: _core.stage == Stage.Onboarded,
            delay: _delayNow(),
            requestWindow: _requestWindow,
            platformsOpen: _platformsOpenNow()
        });
    }

    /// @inheritdoc INetwork
    function request(bytes32 requestHash) external view returns (RequestView memory) {
        return _request(requestHash);
    }

    /// @inheritdoc INetwork
    function requestsByHash(bytes32[] calldata requestHashes) external view returns (RequestView[] memory list) {
        list = new RequestView[](requestHashes.length);
        for (uint256 i = 0; i < list.length; i++) list[i] = _request(requestHashes[i]);
    }

    /// @inheritdoc INetwork
    function isAllowed(
        bytes32 measurement,
        bytes32 config,
        bytes32 platform
    ) external view returns (bool measurementAllowed, bool configAllowed, bool platformAllowed) {
        return (_holds(_measurements[measurement]), _holds(_configs[config]), _platformAllowed(platform));
    }

    /// @inheritdoc INetwork
    function measurementAllowedFrom(bytes32 measurement) external view returns (uint64) {
        return _measurements[measurement];
    }

    /// @inheritdoc INetwork
    function configAllowedFrom(bytes32 config) external view returns (uint64) {
        return _configs[config];
    }

    /// @inheritdoc INetwork
    function platformAllowedFrom(bytes32 platform) external view returns (uint64) {
        return _platforms[platform];
    }

    /// @inheritdoc INetwork
    function platformsOpenFrom() external view returns (uint64) {
        return _core.platformsOpen ? _later.platformsOpenFrom : 0;
    }

    /// @inheritdoc INetwork
    function nextDelay() external view returns (uint32 delay, uint64 from) {
        return _core.delayShortens ? (_later.delay, _later.delayFrom) : (_core.delay, 0);
    }

    /// @inheritdoc INetwork
    function tcbPolicy()
        external
        view
        returns (uint32 minimumTcbEvaluationDataNumber, uint16 statuses, uint32 gracePeriod)
    {
        return (_valueNow(_tcbMinimum), uint16(_valueNow(_tcbStatuses)), _valueNow(_tcbGracePeriod));
    }

    /// @inheritdoc INetwork
    function nextTcbPolicy()
        external
        view
        returns (
            uint32 minimumTcbEvaluationDataNumber,
            uint64 minimumFrom,
            uint16 statuses,
            uint64 statusesFrom,
            uint32 gracePeriod,
            uint64 gracePeriodFrom
        )
    {
        (minimumTcbEvaluationDataNumber, minimumFrom) = (_tcbMinimum.set, _tcbMinimum.from);
        (statuses, statusesFrom) = (uint16(_tcbStatuses.set), _tcbStatuses.from);
        (gracePeriod, gracePeriodFrom) = (_tcbGracePeriod.set, _tcbGracePeriod.from);
    }

    /// @inheritdoc INetwork
    function fmspcDenied(bytes6 fmspc) external view returns (bool) {
        return block.timestamp < _deniedFmspcs[fmspc];
    }

    /// @inheritdoc INetwork
    function deniedFmspcs() external view returns (FmspcView[] memory list) {
        list = new FmspcView[](_fmspcList.length);
        for (uint256 i = 0; i < list.length; i++) {
            list[i] = FmspcView({fmspc: _fmspcList[i], deniedUntil: _deniedFmspcs[_fmspcList[i]]});
        }
    }

    /// @inheritdoc INetwork
    function appsAfter(uint256 skipped, uint256 most) external view returns (AppView[] memory list, uint256 next) {
        uint256 end = _appNames.length;
        if (skipped >= end) return (list, 0);
        if (end - skipped > NAMES_LOOKED_AT) end = skipped + NAMES_LOOKED_AT;
        list = new AppView[](most < end - skipped ? most : end - skipped);
        uint256 found = 0;
        for (next = skipped; next < end && found < list.length; next++) {
            if (_apps[_appNames[next]].hasLatest) list[found++] = appOf(_appNames[next]);
        }
        if (next == _appNames.length) next = 0;
        // Withdrawn ones took no place.
        assembly ("memory-safe") {
            mstore(list, found)
        }
    }

    /// @inheritdoc INetwork
    function appOf(bytes32 app) public view returns (AppView memory found) {
        App storage stored = _apps[app];
        found.app = app;
        found.manifestHash = manifestOf(app);
        if (stored.hasLatest) (found.latest, found.from) = (stored.manifests[stored.latest], stored.from);
    }

    /// @inheritdoc INetwork
    function manifestOf(bytes32 app) public view returns (bytes32) {
        App storage stored = _apps[app];
        if (stored.hasLatest && block.timestamp >= stored.from) return stored.manifests[stored.latest];
        if (stored.hasPrevious) return stored.manifests[stored.latest ^ 1];
        return 0;
    }

    /// @inheritdoc INetwork
    function verifyAttestation(
        bytes32 app,
        string calldata tag,
        bytes calldata data,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external view returns (bool) {
        bytes32 structHash =
            keccak256(abi.encode(ATTESTATION_TYPE, app, keccak256(bytes(tag)), keccak256(data)));
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecover(_hashTypedDataV4(structHash), v, r, s);
        // Before bootstrap the network key is zero, and so is the signer that a bad signature recovers to.
        return problem == ECDSA.RecoverError.NoError && signer != address(0) && signer == _core.networkKey;
    }

    // ---------------------------------------------------------- ownership

    /// @notice Always refused.
    function renounceOwnership() public view override onlyOwner {
        revert RenounceDisabled();
    }

    // ------------------------------------------------------------- inside

    /// Recovery refuses high s and a signer of zero with OpenZeppelin's errors, so no zero address ever passes.
    function _requireSigner(address expected, bytes32 structHash, bytes32 r, bytes32 vs) private view {
        address signer = ECDSA.recover(_hashTypedDataV4(structHash), r, vs);
        if (signer != expected) revert WrongSigner(expected, signer);
    }

    function _request(bytes32 requestHash) private view returns (RequestView memory found) {
        uint256 slot = _requests[requestHash];
        if (slot & STATE_MASK == ANSWERED) {
            found.state = RequestState.Answered;
            found.answerHash = bytes32(slot & ~STATE_MASK);
        } else if (slot != 0) {
            found.state = _isExpired(slot, _core.epoch) ? RequestState.Expired : RequestState.Open;
            found.node = address(uint160(slot >> 8));
            found.blockNumber = uint48(slot >> 168);
            found.expiresAfter = found.blockNumber + _requestWindow;
            found.epoch = uint32(slot >> 216);
        }
    }

    /// For an open slot: whether its window is over or its epoch has passed.
    function _isExpired(uint256 slot, uint32 epoch) private view returns (bool) {
        return block.number > uint256(uint48(slot >> 168)) + _requestWindow || uint32(slot >> 216) != epoch;
    }

    function _requireAllowed(bytes32 measurement, bytes32 config, bytes32 platform) private view {
        if (!_holds(_measurements[measurement])) revert MeasurementNotAllowed(measurement);
        if (!_holds(_configs[config])) revert ConfigNotAllowed(config);
        if (!_platformAllowed(platform)) revert PlatformNotAllowed(platform);
    }

    function _holds(uint64 from) private view returns (bool) {
        return from != 0 && block.timestamp >= from;
    }

    /// A time still to come keeps a platform out even when platforms are open: it was revoked before.
    function _platformAllowed(bytes32 platform) private view returns (bool) {
        uint64 from = _platforms[platform];
        return from == 0 ? platform != 0 && _platformsOpenNow() : block.timestamp >= from;
    }

    function _platformsOpenNow() private view returns (bool) {
        return _core.platformsOpen && block.timestamp >= _later.platformsOpenFrom;
    }

    function _allow(mapping(bytes32 => uint64) storage list, bytes32 value) private returns (uint64 from) {
        if (value == 0) revert ZeroValue();
        if (list[value] != 0) revert AlreadyAllowed(value, list[value]);
        from = _loosensFrom();
        list[value] = from;
    }

    function _revoke(mapping(bytes32 => uint64) storage list, bytes32 value) private {
        if (list[value] == 0) revert NotAllowed(value);
        delete list[value];
    }

    function _loosensFrom() private view returns (uint64) {
        return uint64(block.timestamp) + (_core.epoch == 0 ? 0 : _delayNow());
    }

    function _delayNow() private view returns (uint32) {
        return _core.delayShortens && block.timestamp >= _later.delayFrom ? _later.delay : _core.delay;
    }

    function _setDelay(uint32 delay) private {
        if (delay > LONGEST_DELAY) revert DelayTooLong(delay, LONGEST_DELAY);
        uint32 present = _delayNow();
        bool shortens = _core.epoch != 0 && delay < present;
        uint64 from = uint64(block.timestamp) + (shortens ? present : 0);
        _core.delay = shortens ? present : delay;
        _core.delayShortens = shortens;
        if (shortens) (_later.delay, _later.delayFrom) = (delay, from);
        emit DelaySet(delay, from);
    }

    function _setTcbStatuses(uint16 statuses) private {
        bool sound = statuses & UP_TO_DATE != 0 && statuses & ~ACCEPTABLE_STATUSES == 0;
        if (!sound) revert InvalidTcbStatuses(statuses);
        emit AcceptedTcbStatusesSet(statuses, _set(_tcbStatuses, _valueNow(_tcbStatuses) & statuses, statuses));
    }

    /// @param stricter what holds at once: the present value where the new one would loosen it, the new one elsewhere
    function _set(Setting storage setting, uint32 stricter, uint32 value) private returns (uint64 from) {
        from = stricter == value ? uint64(block.timestamp) : _loosensFrom();
        (setting.before, setting.set, setting.from) = (stricter, value, from);
    }

    function _valueNow(Setting storage setting) private view returns (uint32) {
        return block.timestamp >= setting.from ? setting.set : setting.before;
    }

    /// Checked once, when an app is listed.
    function _requireAppName(bytes32 app) private pure {
        bool ended = app[0] == 0 || app[31] != 0;
        if (ended) revert InvalidAppName(app);
        for (uint256 i = 0; i < 32; i++) {
            uint8 char = uint8(app[i]);
            bool good = (char >= 0x61 && char <= 0x7a) || (char >= 0x30 && char <= 0x39) || char == 0x2d;
            if (char == 0) ended = true;
            else if (ended || !good) revert InvalidAppName(app);
        }
    }
}
