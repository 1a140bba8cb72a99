export type Offer = {
    /**
     * the key without its secret, a whole token, or ''
     */
    handle: string;
    /**
     * the SHA-256 of a whole key
     */
    digest: Buffer | null;
};
/**
 * @typedef {object} Offer
 * @property {string} handle the key without its secret, a whole token, or ''
 * @property {Buffer | null} digest the SHA-256 of a whole key
 */
/**
 * A key as its handle and digest, so that the server never sees the key.  A
 * token goes as it is.  What has not the shape of one, as two headers that
 * arrive as one text, is not passed on: "-" is no key.
 *
 * @param {string} text
 * @returns {Offer}
 */
export declare function offer(text: string): Offer;
/**
 * The key of a request: the header's, else a Bearer token.
 *
 * @param {(name: string) => string | undefined} header
 * @param {string} name of the header
 * @param {boolean} optional a Bearer token of another shape, a JWT say, is not ours
 * @returns {string} '' for none
 */
export declare function keyOf(header: (name: string) => string | undefined, name: string, optional: boolean): string;
