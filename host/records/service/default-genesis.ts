/** Made by `node host/records/service/make-default-genesis.ts`: what a genesis file has, in base64, and the identity of its first record. */
export const DEFAULT_NETWORK = 'c028aebefb7d6f41c5287ab64ce75fbfcb841d35fba26d45f9a8af26916e07b0' as const;
export const DEFAULT_GENESIS = [
  'AAABaRAAAAABm3baqAA2ej9imtLaRJGNqG2KyRJZmgNQCJVKx8RZiNLk1j7WNwAAAAAA+HsidmVyc2lvbiI6MSwibmFtZSI6',
  'ImRzdGFjayIsImNvbnRhY3QiOiIiLCJjb21tZW50IjoidGhlIG5ldHdvcmsgb2Ygd2hvIG5hbWVzIG5vIG90aGVyIG9uZTsg',
  'd2hvZXZlciBkb2VzIHRoZSB3b3JrIHdyaXRlcyIsImFtZW5kYWJsZSI6W10sIm1pbkxpbmtzIjoyLCJtYXhWYWx1ZSI6NjU1',
  'MzYsImRyaWZ0Ijo2MDAwMCwiYnl0ZXNQZXJTb2x1dGlvbiI6MTYsImF1dGhvcml0aWVzIjpbXSwiY2VydGlmaWNhdGVSZXF1',
  'aXJlZCI6ZmFsc2V9AGivggFzXCmM2F5R7k6wMy3tcXy6GVgPWcXMJbm8JI95vZvQ2rfVWPOghyEoAoBb4qsokhmjcx13oy3V',
  'jsVj8A0AAACqEAEAAAGbdtqoADZ6P2Ka0tpEkY2obYrJElmaA1AIlUrHxFmI0uTWPtY3AQDAKK6++31vQcUoerZM51+/y4Qd',
  'NfuibUX5qK8mkW4HsAAAABlyZWNvcmQgMiBvZiBhIG5ldyBuZXR3b3JrADI0rMMrTCRNdjymjyqx0QxSZfrLQoVAso8ocIUJ',
  'pK3zRKO92hWZbFLXe2tTNPz5nRDLuXFpLbTH95QoLPSzzwY=',
].join('');
