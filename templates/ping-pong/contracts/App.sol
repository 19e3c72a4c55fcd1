// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EnclaveApp, IAttestations} from "dstack/contracts/EnclaveApp.sol";

/// @notice Whoever sends a ping gets a pong from the enclave.
contract App is EnclaveApp {
    bytes32 private constant PING = "ping";

    event Pong(uint64 indexed sequence, address indexed to, string text);
    event Declined(uint64 indexed sequence, address indexed to, bytes32 code);

    constructor(IAttestations network_, bytes32 app_) EnclaveApp(network_, app_) {}

    function ping(string calldata text) external returns (uint64 sequence) {
        return _request(PING, abi.encode(text));
    }

    function _answered(uint64 sequence, bytes32, address sender, bytes calldata response) internal override {
        emit Pong(sequence, sender, abi.decode(response, (string)));
    }

    function _refused(uint64 sequence, bytes32, address sender, bytes32 code) internal override {
        emit Declined(sequence, sender, code);
    }
}
