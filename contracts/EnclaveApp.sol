// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @notice The one function of a network's contract (INetwork.sol) that an app's contract needs.
interface IAttestations {
    function verifyAttestation(
        bytes32 app,
        string calldata tag,
        bytes calldata data,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external view returns (bool);
}

/// @title EnclaveApp
/// @notice The base of a contract whose requests are answered in an enclave. Requests are numbered from 1. They are settled in
/// that order, each once, by an answer that the network attests as this app's: for this chain, this contract, exactly that
/// request, and the block at which the enclave read it. Whoever brings the answer decides nothing, and may be anybody.
abstract contract EnclaveApp {
    /// @notice What an enclave answers, and for what.
    struct Answer {
        uint64 sequence;
        bytes32 kind;
        address sender;
        bytes32 dataHash;
        /// The block at which the enclave read the request: of this chain, and one of its last 256.
        uint64 blockNumber;
        bytes32 blockHash;
        /// Zero, or why the enclave refuses the request for good: ASCII, filled up with zeros.
        bytes32 code;
        bytes response;
    }

    /// @notice A request of `kind` was made: `data` is what the enclave gets.
    event Requested(uint64 indexed sequence, bytes32 indexed kind, address indexed sender, bytes data);
    /// @notice The request was settled. `code` is zero, or why the enclave refused it.
    event Settled(uint64 indexed sequence, bytes32 indexed kind, bytes32 code);

    /// @notice The answer is for another request than the next one.
    error OutOfOrder(uint64 given, uint64 next);
    /// @notice The answer is for a request that is not the one of that number.
    error AnotherRequest(uint64 sequence);
    /// @notice The block is not of this chain, or older than the last 256: the enclave has to be asked again.
    error BlockUnknown(uint64 blockNumber);
    /// @notice The network does not attest this answer.
    error NotAttested();
    /// @notice A request with so many bytes would not be read.
    error DataTooLong(uint256 length);
    /// @notice Another request is being settled: what the app calls meanwhile may not settle the next one in the middle of it.
    error Settling();
    /// @notice Whoever settles has to leave the app so much gas.
    error GasTooLow(uint256 needed);

    uint256 private constant DATA_MAX = 16 * 1024;
    /// The app may have no other attestations with this tag.
    string private constant TAG = "dstack.v1.answer";

    /// @notice The network's contract, and the app in it: its name in ASCII, filled up with zeros.
    IAttestations public immutable network;
    bytes32 public immutable app;

    uint64 private _requested;
    uint64 private _settled;
    bool private _settling;
    mapping(uint64 sequence => bytes32) private _requests;

    constructor(IAttestations network_, bytes32 app_) {
        network = network_;
        app = app_;
    }

    /// @notice How many requests were made and settled, and the hash of the one to be settled next; zero when there is none.
    function progress() external view returns (uint64 requested, uint64 settled, bytes32 next) {
        return (_requested, _settled, _requests[_settled + 1]);
    }

    /// @notice The hash of a request that is not settled yet: keccak256(abi.encode(sequence, kind, sender, keccak256(data))).
    function requestHash(uint64 sequence) external view returns (bytes32) {
        return _requests[sequence];
    }

    /// @notice Settles the next request by the enclave's answer. `v`, `r`, `s`: the network's attestation of it.
    function settle(Answer calldata answer, uint8 v, bytes32 r, bytes32 s) external {
        if (_settling) revert Settling();
        uint64 sequence = answer.sequence;
        if (sequence != _settled + 1) revert OutOfOrder(sequence, _settled + 1);
        bytes32 hash = keccak256(abi.encode(sequence, answer.kind, answer.sender, answer.dataHash));
        if (hash != _requests[sequence]) revert AnotherRequest(sequence);
        if (answer.blockHash == 0 || blockhash(answer.blockNumber) != answer.blockHash) {
            revert BlockUnknown(answer.blockNumber);
        }
        bytes memory attested = abi.encode(
            block.chainid,
            address(this),
            hash,
            answer.blockNumber,
            answer.blockHash,
            answer.code,
            keccak256(answer.response)
        );
        if (!network.verifyAttestation(app, TAG, abi.encode(keccak256(attested)), v, r, s)) revert NotAttested();
        // Before anything of the app's runs, so that nothing it calls can have a request settled twice.
        _settled = sequence;
        _settling = true;
        delete _requests[sequence];
        emit Settled(sequence, answer.kind, answer.code);
        uint256 needed = _gasFor(answer.kind);
        if (gasleft() < needed) revert GasTooLow(needed);
        if (answer.code == 0) _answered(sequence, answer.kind, answer.sender, answer.response);
        else _refused(sequence, answer.kind, answer.sender, answer.code);
        _settling = false;
    }

    /// @dev Makes a request of the enclave; the app decides who may.
    function _request(bytes32 kind, bytes memory data) internal returns (uint64 sequence) {
        // Its log has to fit into what hosts and enclaves read.
        if (data.length > DATA_MAX) revert DataTooLong(data.length);
        sequence = ++_requested;
        _requests[sequence] = keccak256(abi.encode(sequence, kind, msg.sender, keccak256(data)));
        emit Requested(sequence, kind, msg.sender, data);
    }

    /// @dev The enclave has answered. While it reverts, no later request is settled: send money by withdrawal, not from here.
    function _answered(uint64 sequence, bytes32 kind, address sender, bytes calldata response) internal virtual;

    /// @dev The gas that `_answered` and `_refused` are given at least. An app that goes on when a call of its own fails (`try`, or a
    /// call by hand) has to say what it needs: whoever settles chooses the gas, and estimates are as low as the transaction succeeds with.
    function _gasFor(bytes32) internal view virtual returns (uint256) {
        return 0;
    }

    /// @dev The enclave refuses the request for good. It must not revert either.
    function _refused(uint64 sequence, bytes32 kind, address sender, bytes32 code) internal virtual;
}
