// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EnclaveApp, IAttestations} from "dstack/contracts/EnclaveApp.sol";

/// @notice An auction with sealed bids, at the second price. Nobody sees a bid but the enclave, and of those who lose nobody ever does.
/// A bid is sealed to a key that the enclave says in its first answer, and comes with a deposit, which bounds what it counts for.
contract App is EnclaveApp {
    bytes32 private constant OPEN = "open";
    bytes32 private constant CLOSE = "close";
    uint256 private constant MAX_BIDS = 100;
    uint256 private constant SEALED_BYTES = 1168;
    /// Bids below it do not count, and no deposit is less: the seller says what it is worth that nobody takes up all places.
    uint256 public constant RESERVE = 0.001 ether;
    /// For bids and for the enclave's answer. Then whoever has a deposit here need not wait for the seller, or a host, any more.
    uint256 private constant AT_MOST = 14 days;

    address public immutable seller;
    uint256 public immutable endsAt;
    bool public closed;
    uint256 public bids;
    /// All bids in their order, as one hash: what the host shows the enclave is compared with it.
    bytes32 public bidsHash;
    address public winner;
    uint256 public price;
    mapping(address bidder => uint256) public deposits;
    /// From here on everybody may withdraw.
    bool public settled;
    uint256 private _proceeds;

    event Opened(bytes publicKey);
    event Bid(address indexed bidder, uint256 deposit, bytes sealedBid);
    event Sold(address indexed winner, uint256 price);

    error Closed();
    error NotTheSeller();
    error BidRefused();
    error NotSettled();
    error TooEarly();

    constructor(IAttestations network_, bytes32 app_) EnclaveApp(network_, app_) {
        seller = msg.sender;
        endsAt = block.timestamp + AT_MOST;
        _request(OPEN, "");
    }

    function bid(bytes calldata sealedBid) external payable {
        if (closed) revert Closed();
        bool fits = msg.value >= RESERVE && deposits[msg.sender] == 0 && sealedBid.length == SEALED_BYTES;
        if (!fits || bids == MAX_BIDS) revert BidRefused();
        deposits[msg.sender] = msg.value;
        bids += 1;
        bidsHash = keccak256(abi.encode(bidsHash, msg.sender, msg.value, keccak256(sealedBid)));
        emit Bid(msg.sender, msg.value, sealedBid);
    }

    function close() external {
        if (msg.sender != seller) revert NotTheSeller();
        if (closed) revert Closed();
        closed = true;
        _request(CLOSE, abi.encode(bidsHash, bids, RESERVE));
    }

    /// @notice Ends an auction that was not settled in time, without a winner: by anybody, or a seller who does not close, or hosts that bring no
    /// answer, would keep all deposits.
    function abandon() external {
        if (block.timestamp < endsAt || settled) revert TooEarly();
        closed = true;
        settled = true;
    }

    /// @notice Deposits back, less what the winner pays; and to the seller what it comes to.
    function withdraw() external {
        if (!settled) revert NotSettled();
        uint256 amount = deposits[msg.sender];
        deposits[msg.sender] = 0;
        if (msg.sender == winner && amount > 0) amount -= price;
        if (msg.sender == seller) {
            amount += _proceeds;
            _proceeds = 0;
        }
        (bool sent,) = msg.sender.call{value: amount}("");
        require(sent);
    }

    function _answered(uint64, bytes32 kind, address, bytes calldata response) internal override {
        if (kind == OPEN) {
            emit Opened(abi.decode(response, (bytes)));
            return;
        }
        // Too late: deposits may be gone.
        if (settled) return;
        // The enclave counts no bid above its deposit, and the price is not above the winner's bid.
        (winner, price) = abi.decode(response, (address, uint256));
        // Nobody has won where there was no bid that counts.
        if (winner != address(0)) _proceeds = price;
        settled = true;
        emit Sold(winner, price);
    }

    /// The enclave refuses neither kind; were it to, everybody would get the deposit back.
    function _refused(uint64, bytes32 kind, address, bytes32) internal override {
        if (kind == CLOSE) settled = true;
    }
}
