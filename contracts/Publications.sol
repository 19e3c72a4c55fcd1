// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Publications
/// @notice Where hosts that can reach each other by nothing but a chain leave messages: bytes in a transaction's calldata, found by
/// an event that says what they are about. Nothing is stored, checked or owned here, and any network on the chain may use it. It is at
/// the same address on every chain, which follows from this code (EIP-1014, by the deployer at 0x4e59b44847b379578588920cA78FbF26c0B4956C).
///
/// The bytes are not in the event: readers ask for the few that they have a use for, and a reply that lists publications stays small
/// whatever was published. For the same reason each takes a transaction of its own (21,000 gas at least), so that nobody can fill a block
/// with events that cost next to nothing.
contract Publications {
    /// @notice The transaction's calldata has a message about `subject`, such as the hash of a request to join.
    event Published(bytes32 indexed subject, address indexed publisher);

    /// @notice Only an account without code, by a transaction to this contract itself: where readers look for the bytes.
    error NotATransaction();

    /// @notice Leaves a message. What it means is for its readers to judge.
    /// @param subject what it is about
    function publish(bytes32 subject, bytes calldata) external {
        // An account may delegate to code (EIP-7702), which could call this any number of times in one transaction.
        if (msg.sender != tx.origin || msg.sender.code.length != 0) revert NotATransaction();
        emit Published(subject, msg.sender);
    }
}
