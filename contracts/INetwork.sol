// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A network of confidential VMs that share one secret
/// @notice Holds what every node must agree on: the network key, which images, configurations and platforms may join,
/// how current those platforms must be, which requests to join are open or answered, and what each app runs.
///
/// Whatever loosens (allowing, opening, a shorter delay, a rollout) takes effect after the network's delay; whatever
/// tightens is immediate. Until the first bootstrap there is no secret to lose, so loosening is immediate too.
///
/// Signatures are EIP-712 typed data under the domain {name "Dstack", version "1", chainId, verifyingContract}, one type
/// for each purpose, low-s only (EIP-2), and a signer of zero is never accepted. Those that a transaction carries are in
/// EIP-2098's compact form (r, vs), since calldata is what they cost. The types:
///
///   Request(address node,bytes32 kemKeyHash,bytes32 quoteHash,uint64 blockNumber,bytes32 blockHash,bytes32 config,uint64 epoch)
///   Onboard(address node,bytes32 requestHash,bytes32 measurement,bytes32 config,bytes32 platform,bytes32 answerHash)
///   Bootstrap(address networkKey,bytes32 measurement,bytes32 config,bytes32 platform,bytes32 quoteHash,uint64 blockNumber,bytes32 blockHash,uint64 epoch)
///   Attestation(bytes32 app,string tag,bytes data)
///
/// The TCB policy says how current a platform has to be: Intel's word, found in a quote's collateral, which no contract
/// can check at a reasonable price. So onboard does not look at it and costs nothing for it. The node that answers a request
/// reads it, at one block, and refuses what it does not accept. A tightening therefore binds each answer made by a node that
/// sees its block; an answer signed before can still be posted until its request expires.
/// Its three parts (minimum, statuses, grace period) are set one by one, and none touches another. What is set holds at
/// once as far as it is stricter than what is in force, and wholly once the delay is over: of a change of the statuses that
/// adds some and takes others away, the removal is immediate and the addition waits. A new setting replaces one of the
/// same part that is still to come, and its time begins anew: so tightening a part also cancels what was to loosen it.
///
/// Statuses are bits, in this order from bit 0, which never changes: UpToDate, SWHardeningNeeded, ConfigurationNeeded,
/// ConfigurationAndSWHardeningNeeded, OutOfDate, OutOfDateConfigurationNeeded, Revoked (which no policy can accept),
/// TDRelaunchAdvised, TDRelaunchAdvisedConfigurationNeeded.
///
/// No decision should rest on an event: an event is a reason to read state.
interface INetwork {
    // ---------------------------------------------------------------- types

    /// @notice What became of a request. In storage only None, Open and Answered exist; Expired is how an open one reads
    /// once its window is over or the network was bootstrapped again, and it may then be registered anew.
    enum RequestState {
        None,
        Open,
        Answered,
        Expired
    }

    /// @param state only Open can be answered
    /// @param node the address that asked; zero once answered, when the slot holds the answer instead
    /// @param blockNumber the block in which it was registered; zero once answered
    /// @param expiresAfter the last block in which it can be answered; zero once answered
    /// @param epoch the epoch in which it was registered; zero once answered
    /// @param answerHash the top 248 bits of the SHA-256 of the sealed answer, the last byte zero; zero until answered
    struct RequestView {
        RequestState state;
        address node;
        uint64 blockNumber;
        uint64 expiresAfter;
        uint32 epoch;
        bytes32 answerHash;
    }

    /// @param networkKey the address of the key derived from the network secret; zero until bootstrap
    /// @param epoch how often the network was bootstrapped; 0 until the first, so the first secret has epoch 1
    /// @param onboarded whether any node was ever onboarded; from then on bootstrap is closed
    /// @param delay seconds that loosening takes, as in force now
    /// @param requestWindow blocks in which a request can be answered after the block that registered it
    /// @param platformsOpen whether any platform that was not revoked may join, now
    struct NetworkView {
        address networkKey;
        uint32 epoch;
        bool onboarded;
        uint32 delay;
        uint32 requestWindow;
        bool platformsOpen;
    }

    /// @param app the app's name in ASCII, padded with zeros on the right
    /// @param manifestHash the manifest in force now; zero when there is none
    /// @param latest the manifest rolled out last, in force or pending; zero when there is none
    /// @param from when (Unix seconds) the latest takes or took effect; zero when there is none
    struct AppView {
        bytes32 app;
        bytes32 manifestHash;
        bytes32 latest;
        uint64 from;
    }

    /// @param fmspc family, model, stepping, platform and custom SKU, from a PCK certificate
    /// @param deniedUntil until when (Unix seconds) it is denied: 2^64-1 if nobody has allowed it again
    struct FmspcView {
        bytes6 fmspc;
        uint64 deniedUntil;
    }

    // --------------------------------------------------------------- events

    /// @notice The network has a (new) key. Everything that the network key signed for goes in, so that an audit can
    /// find the bootstrap quote without tracing the owner's multisig.
    event Bootstrapped(
        uint64 epoch,
        address networkKey,
        bytes32 measurement,
        bytes32 config,
        bytes32 platform,
        bytes32 quoteHash,
        uint64 blockNumber,
        bytes32 blockHash
    );
    /// @notice A node asks to join; the request itself travels by gossip.
    event Registered(bytes32 indexed requestHash, address node);
    /// @notice A node's request was answered. Who asked is in `Registered`, the answer's hash in the state, the rest in the
    /// transaction: an event's word costs as much as half one of calldata, and every node that joins pays for these.
    event Onboarded(bytes32 indexed requestHash, bytes32 measurement, bytes32 platform);
    /// @notice Nodes of this measurement may join from `from` (Unix seconds) on.
    event MeasurementAllowed(bytes32 indexed measurement, uint64 from);
    /// @notice Nodes of this measurement may no longer join. Those that have joined keep the secret.
    event MeasurementRevoked(bytes32 indexed measurement);
    /// @notice Nodes with this `network.json` may join from `from` (Unix seconds) on.
    event ConfigAllowed(bytes32 indexed config, uint64 from);
    /// @notice Nodes with this `network.json` may no longer join.
    event ConfigRevoked(bytes32 indexed config);
    /// @notice Nodes on this platform may join from `from` (Unix seconds) on.
    event PlatformAllowed(bytes32 indexed platform, uint64 from);
    /// @notice Nodes on this platform may no longer join, be platforms open or not.
    event PlatformRevoked(bytes32 indexed platform);
    /// @notice Any platform that was not revoked may join from `from` (Unix seconds) on.
    event PlatformsOpened(uint64 from);
    /// @notice Only listed platforms may join.
    event PlatformsClosed();
    /// @notice Loosening takes `delay` seconds from `from` (Unix seconds) on.
    event DelaySet(uint32 delay, uint64 from);
    /// @notice Collateral must be of this TCB evaluation or a later one: from `from` (Unix seconds) on if this is lower than
    /// what was in force, at once if not.
    event MinimumTcbEvaluationNumberSet(uint32 tcbEvaluationDataNumber, uint64 from);
    /// @notice Platforms of these statuses (bits) may join from `from` (Unix seconds) on. Statuses in force that are not
    /// among them are no longer accepted, at once.
    event AcceptedTcbStatusesSet(uint16 statuses, uint64 from);
    /// @notice Platforms that are out of date may join for so many seconds: from `from` (Unix seconds) on if this is longer
    /// than what was in force, at once if not.
    event TcbOutOfDateGraceSet(uint32 gracePeriod, uint64 from);
    /// @notice Platforms of this FMSPC may no longer join.
    event FmspcDenied(bytes6 indexed fmspc);
    /// @notice Platforms of this FMSPC may join again from `from` (Unix seconds) on.
    event FmspcAllowed(bytes6 indexed fmspc, uint64 from);
    /// @notice The app runs this manifest from `from` (Unix seconds) on.
    event RolledOut(bytes32 indexed app, bytes32 manifestHash, uint64 from);
    /// @notice The app is back at this manifest, at once; zero when it has none.
    event RolledBack(bytes32 indexed app, bytes32 manifestHash);
    /// @notice The app has no manifest any more.
    event Withdrawn(bytes32 indexed app);

    // --------------------------------------------------------------- errors

    /// @notice The network has no key yet: bootstrap first.
    error NotBootstrapped();
    /// @notice A node was onboarded, so the secret lives in more than one place and can't be replaced by bootstrap.
    error BootstrapClosed();
    /// @notice That block is not one of the last 256 (or not the one named): make a new quote over a recent block.
    error UnknownBlock(uint64 blockNumber);
    /// @notice The request is open or answered already.
    error RequestExists(bytes32 requestHash);
    /// @notice The request was never registered, or it is answered already.
    error RequestNotOpen(bytes32 requestHash);
    /// @notice The request's window is over, or the network was bootstrapped again: make a new quote and register it.
    error RequestExpired(bytes32 requestHash);
    /// @notice The signature is by `signer`; it had to be by `expected`, over exactly these values on this contract.
    error WrongSigner(address expected, address signer);
    /// @notice The measurement is not allowed now.
    error MeasurementNotAllowed(bytes32 measurement);
    /// @notice The configuration is not allowed now.
    error ConfigNotAllowed(bytes32 config);
    /// @notice The platform is not allowed now.
    error PlatformNotAllowed(bytes32 platform);
    /// @notice It is allowed, or will be once its delay is over; asking again changes neither.
    error AlreadyAllowed(bytes32 value, uint64 from);
    /// @notice There is nothing to revoke.
    error NotAllowed(bytes32 value);
    /// @notice Platforms are open, or will be once the delay is over; asking again changes neither.
    error PlatformsAlreadyOpen(uint64 from);
    /// @notice Platforms are not open.
    error PlatformsNotOpen();
    /// @notice Zero is what storage holds for "none", so it can't be a value.
    error ZeroValue();
    /// @notice A delay of more than a year is taken for a mistake: it could not be undone before it has passed.
    error DelayTooLong(uint32 delay, uint32 longest);
    /// @notice Accepted statuses are bits: UpToDate is always one of them, Revoked and unknown ones never.
    error InvalidTcbStatuses(uint16 statuses);
    /// @notice A grace period of more than ten years is taken for a mistake: accept the status OutOfDate instead.
    error GracePeriodTooLong(uint32 gracePeriod, uint32 longest);
    /// @notice The FMSPC is denied already.
    error FmspcAlreadyDenied(bytes6 fmspc);
    /// @notice The FMSPC is not denied, or will not be from `until` on; asking again changes neither.
    error FmspcNotDenied(bytes6 fmspc, uint64 until);
    /// @notice A request window of zero blocks would let nobody join.
    error ZeroRequestWindow();
    /// @notice The owner can't be renounced: a network that nobody can tighten can't be defended.
    error RenounceDisabled();
    /// @notice An app's name is 1 to 31 characters of a-z, 0-9 and "-", padded with zeros.
    error InvalidAppName(bytes32 app);
    /// @notice There is no manifest to go back to: one rollback after each rollout, then a rollout with its delay.
    error NoPreviousManifest(bytes32 app);
    /// @notice The app has no manifest.
    error NoManifest(bytes32 app);

    // ------------------------------------------------- the network's secret

    /// @notice Gives the network its key. Only the owner; only until the first node is onboarded; raises the epoch.
    /// @dev While the chain still knows the block (256 blocks) its hash must match; a multisig may take longer than that,
    /// so an older one is taken on the owner's word. The epoch that is signed makes each signature good for once.
    /// @param networkKey the address of the key derived from the new secret
    /// @param measurement the first node's image and shape; allowed now
    /// @param config SHA-256 of its `network.json`; allowed now
    /// @param platform SHA-256 of its PCK's PPID; allowed now
    /// @param quoteHash SHA-256 of the bootstrap quote's header and body
    /// @param blockNumber the block whose hash the quote's report data holds
    /// @param blockHash that block's hash
    /// @param r of the network key's own signature over `Bootstrap`
    /// @param vs of the same
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
    ) external;

    /// @notice Asks to join. Anyone may post it; the request hash, which is `Request`'s EIP-712 struct hash, is computed
    /// here from the block's hash as this chain has it and the present epoch. So nobody can take a request's slot with
    /// another node's key or revive a stale request; who copies the transaction only pays for it.
    /// @param node the address of the node's one-time key
    /// @param kemKeyHash SHA-256 of the key to which the answer is to be sealed
    /// @param quoteHash SHA-256 of the quote's header and body
    /// @param blockNumber one of the last 256 blocks
    /// @param config SHA-256 of the node's `network.json`
    /// @param r of the node's signature over `Request`
    /// @param vs of the same
    /// @return requestHash by which the request is known from now on
    function register(
        address node,
        bytes32 kemKeyHash,
        bytes32 quoteHash,
        uint64 blockNumber,
        bytes32 config,
        bytes32 r,
        bytes32 vs
    ) external returns (bytes32 requestHash);

    /// @notice Records the network's answer to an open request, once. Posted by the requester's relay. The first one
    /// closes bootstrap for ever.
    /// @param requestHash an open request of the present epoch
    /// @param measurement what the answering node found in the quote; allowed now
    /// @param config the same
    /// @param platform the same
    /// @param answerHash SHA-256 of the sealed answer
    /// @param r of the network key's signature over `Onboard`, in which `node` is the one that registered
    /// @param vs of the same
    function onboard(
        bytes32 requestHash,
        bytes32 measurement,
        bytes32 config,
        bytes32 platform,
        bytes32 answerHash,
        bytes32 r,
        bytes32 vs
    ) external;

    // ----------------------------------------------------- who may join

    /// @notice Lets nodes of this measurement join, after the delay. Only the owner.
    function allowMeasurement(bytes32 measurement) external;
    /// @notice Lets no more nodes of this measurement join, at once. Only the owner.
    function revokeMeasurement(bytes32 measurement) external;
    /// @notice Lets nodes with this configuration join, after the delay. Only the owner.
    function allowConfig(bytes32 config) external;
    /// @notice Lets no more nodes with this configuration join, at once. Only the owner.
    function revokeConfig(bytes32 config) external;
    /// @notice Lists this platform, after the delay (at once when platforms are open and it is not revoked, for then it
    /// may join anyway). Only the owner.
    function allowPlatform(bytes32 platform) external;
    /// @notice Keeps this platform out, at once, listed before or not, be platforms open or not. Only the owner.
    function revokePlatform(bytes32 platform) external;
    /// @notice Lets any platform join that is not revoked, after the delay. Only the owner.
    function openPlatforms() external;
    /// @notice Lets only listed platforms join, at once. Only the owner.
    function closePlatforms() external;
    /// @notice Sets the delay: a longer one at once, a shorter one after the present one. It replaces a shorter one that
    /// is still to come. What is pending keeps its time. Only the owner.
    /// @param delay seconds, a year at most; 0 is legal and means that the owner is trusted fully at any moment
    function setDelay(uint32 delay) external;

    // ---------------------------------------------------------- TCB policy

    /// @notice Sets the lowest `tcbEvaluationDataNumber` that TCB info and QE identity may have: a higher one at once, a
    /// lower one after the delay. Only the owner.
    /// @param tcbEvaluationDataNumber Intel's number of the TCB recovery; 0, as at deployment, asks for nothing
    function setMinimumTcbEvaluationNumber(uint32 tcbEvaluationDataNumber) external;
    /// @notice Sets which TCB statuses are accepted: fewer at once, more after the delay. Only the owner.
    /// @param statuses bits in the order given above; with UpToDate, which alone is accepted at deployment, never Revoked
    function setAcceptedTcbStatuses(uint16 statuses) external;
    /// @notice Sets how long platforms that are out of date (OutOfDate, OutOfDateConfigurationNeeded) are accepted all the
    /// same: shorter at once, longer after the delay. Only the owner.
    /// @param gracePeriod seconds since the oldest TCB date under the quote, ten years at most; 0, as at deployment, is none
    function setTcbOutOfDateGrace(uint32 gracePeriod) external;
    /// @notice Keeps all platforms of this FMSPC out, at once, whatever else holds; or does so no longer, after the delay.
    /// Denying it again cancels that. Only the owner.
    /// @param denied true to keep them out, false to let them in again
    function setDeniedFmspc(bytes6 fmspc, bool denied) external;

    // ---------------------------------------------------------------- apps

    /// @notice Makes an app run this manifest, after the delay; until then the present one stays in force. Replaces a
    /// rollout that is still pending, and its time begins anew. Only the owner.
    /// @param app its name, 1 to 31 characters of a-z, 0-9 and "-", padded with zeros on the right
    /// @param manifestHash SHA-256 of the canonical manifest
    function rollout(bytes32 app, bytes32 manifestHash) external;
    /// @notice Cancels a pending rollout, or else goes back to the previous manifest, at once. What was left this way can
    /// come back only by a rollout with its delay, so a second rollback in a row is refused. Only the owner.
    function rollback(bytes32 app) external;
    /// @notice Leaves the app without a manifest, pending or in force, at once. Only the owner.
    function withdraw(bytes32 app) external;

    // --------------------------------------------------------------- views

    /// @notice The network in one call.
    function network() external view returns (NetworkView memory);
    /// @notice A request by its hash. "Now" is the block that the call runs in.
    function request(bytes32 requestHash) external view returns (RequestView memory);
    /// @notice Requests by their hashes, in that order: `request` of many in one call.
    function requestsByHash(bytes32[] calldata requestHashes) external view returns (RequestView[] memory);
    /// @notice Whether each of the three would let a node join now.
    function isAllowed(
        bytes32 measurement,
        bytes32 config,
        bytes32 platform
    ) external view returns (bool measurementAllowed, bool configAllowed, bool platformAllowed);
    /// @notice Since or from when (Unix seconds) the measurement is allowed; 0 if it isn't.
    function measurementAllowedFrom(bytes32 measurement) external view returns (uint64);
    /// @notice Since or from when (Unix seconds) the configuration is allowed; 0 if it isn't.
    function configAllowedFrom(bytes32 config) external view returns (uint64);
    /// @notice Since or from when (Unix seconds) the platform is listed; 0 if it isn't, 2^64-1 if it is revoked.
    function platformAllowedFrom(bytes32 platform) external view returns (uint64);
    /// @notice Since or from when (Unix seconds) platforms are open; 0 if they are not.
    function platformsOpenFrom() external view returns (uint64);
    /// @notice The delay that was set last and since or from when (Unix seconds) it holds; `from` is 0 for one that was
    /// not set by shortening.
    function nextDelay() external view returns (uint32 delay, uint64 from);
    /// @notice The TCB policy in force now. Who judges a quote reads this and `fmspcDenied` at one block.
    /// @return minimumTcbEvaluationDataNumber the lowest that TCB info and QE identity may have
    /// @return statuses bits of those accepted
    /// @return gracePeriod seconds for which platforms out of date are accepted since their TCB date; 0 for none
    function tcbPolicy()
        external
        view
        returns (uint32 minimumTcbEvaluationDataNumber, uint16 statuses, uint32 gracePeriod);
    /// @notice Each part of the TCB policy as it was set last, and since or from when (Unix seconds) it holds wholly; 0 for
    /// one that was never set.
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
        );
    /// @notice Whether platforms of this FMSPC are kept out now.
    function fmspcDenied(bytes6 fmspc) external view returns (bool);
    /// @notice Every FMSPC that was ever denied, in that order, those allowed again too.
    function deniedFmspcs() external view returns (FmspcView[] memory);
    /// @notice A page of the apps that have a manifest, pending or in force, in the order of their first rollouts. `skipped` is 0 for
    /// the first page, then each page's `next`, which is 0 after the last one. A page has at most `most` apps, and fewer, or none, after
    /// many that were withdrawn: a call looks at a bounded number of names.
    function appsAfter(uint256 skipped, uint256 most) external view returns (AppView[] memory list, uint256 next);
    /// @notice One app; all zero but the name if it was never rolled out.
    function appOf(bytes32 app) external view returns (AppView memory);
    /// @notice The manifest that is in force for an app now; zero if none.
    function manifestOf(bytes32 app) external view returns (bytes32);
    /// @notice Whether an app of this network attested this: the present network key signed `Attestation`.
    /// @param app which app asked; the nodes fill it in, no app can name another
    /// @param tag what the app uses it for
    /// @param data what is attested
    /// @param v 27 or 28
    /// @param r of the signature
    /// @param s of the signature, in the lower half
    /// @return true only for a valid signature; never reverts on a bad one
    function verifyAttestation(
        bytes32 app,
        string calldata tag,
        bytes calldata data,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external view returns (bool);
}
