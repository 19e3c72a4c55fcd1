// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EnclaveApp, IAttestations} from "dstack/contracts/EnclaveApp.sol";

/// @notice Private balances. Deposits and withdrawals are public; who has how much in between, and who pays whom, the enclave alone knows.
/// The balances are here, sealed: the enclave keeps nothing, and what it reads is compared with the hash of the newest.
contract App is EnclaveApp {
    bytes32 private constant OPEN = "open";
    bytes32 private constant DEPOSIT = "deposit";
    bytes32 private constant TRANSFER = "transfer";
    bytes32 private constant WITHDRAW = "withdraw";
    uint256 private constant SEALED_BYTES = 1200;

    /// The hash of the sealed balances, and the block whose event has them. Zero before the first deposit.
    bytes32 public stateHash;
    uint256 public stateBlock;
    /// What accounts may collect: withdrawn, or a deposit that was refused.
    mapping(address account => uint256) public owed;
    mapping(uint64 sequence => uint256) private _deposits;

    event Opened(bytes publicKey);
    event Updated(uint64 indexed sequence, bytes state);
    event Owed(address indexed account, uint256 amount);
    event Refused(uint64 indexed sequence, bytes32 code);

    error NothingSent();
    error SealedLength();

    constructor(IAttestations network_, bytes32 app_) EnclaveApp(network_, app_) {
        _request(OPEN, "");
    }

    function deposit() external payable {
        if (msg.value == 0) revert NothingSent();
        uint64 sequence = _request(DEPOSIT, abi.encode(msg.value));
        _deposits[sequence] = msg.value;
    }

    /// @param sealedTransfer to whom and how much, sealed to the enclave for this sender. All are of one length.
    function transfer(bytes calldata sealedTransfer) external {
        if (sealedTransfer.length != SEALED_BYTES) revert SealedLength();
        _request(TRANSFER, abi.encode(sealedTransfer));
    }

    /// @notice Asks for all that the sender has.
    function withdraw() external {
        _request(WITHDRAW, "");
    }

    function collect() external {
        uint256 amount = owed[msg.sender];
        owed[msg.sender] = 0;
        (bool sent,) = msg.sender.call{value: amount}("");
        require(sent);
    }

    function _answered(uint64 sequence, bytes32 kind, address sender, bytes calldata response) internal override {
        if (kind == OPEN) {
            emit Opened(abi.decode(response, (bytes)));
            return;
        }
        (bytes memory state, uint256 paid) = abi.decode(response, (bytes, uint256));
        stateHash = keccak256(state);
        stateBlock = block.number;
        delete _deposits[sequence];
        emit Updated(sequence, state);
        if (paid > 0) _owe(sender, paid);
    }

    /// A deposit that the enclave has no room for goes back.
    function _refused(uint64 sequence, bytes32, address sender, bytes32 code) internal override {
        uint256 amount = _deposits[sequence];
        delete _deposits[sequence];
        emit Refused(sequence, code);
        if (amount > 0) _owe(sender, amount);
    }

    function _owe(address account, uint256 amount) private {
        owed[account] += amount;
        emit Owed(account, amount);
    }
}
