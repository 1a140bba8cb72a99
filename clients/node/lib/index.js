// For frameworks that have no middleware here: a Verifier and what it tells.
export { Verifier, Caller } from './verifier.js';
export { ApikeyRefused, statusOf } from './refusal.js';
export { rateLimitFields, secondsUntil } from './headers.js';
export { bareAddress, clientAddress, trusting } from './address.js';
export { keyOf, offer } from './credential.js';
