/*
 * hex.h
 *		Reading hexadecimal digits.
 */
#ifndef APIKEY_HEX_H
#define APIKEY_HEX_H

extern bool apikey_hex_decode(const char *digits, size_t len, uint8 *out);

#endif							/* APIKEY_HEX_H */
