/*
 * SHA-256 (FIPS 180-4), so that a plan says of each file the same as `sha256sum` does.
 *
 * It shows whether a file is the one that was compiled; it is not a signature. No allocation, no
 * state but the caller's. Cost: O(length), about 5 ms for a thousand revision files.
 */
#ifndef MIG_CORE_SHA256_H
#define MIG_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define MIG_SHA256_HEX 64

typedef struct mig_sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    unsigned char block[64];
} mig_sha256;

/* Begin a hash. */
void mig_sha256_init(mig_sha256 *hash);

/* Add `length` bytes; may be called any number of times. */
void mig_sha256_add(mig_sha256 *hash, const void *bytes, size_t length);

/* End the hash: `hex` gets its lower-case digits, and a NUL. It must be initialised again before it
 * is used again. */
void mig_sha256_hex(mig_sha256 *hash, char hex[MIG_SHA256_HEX + 1]);

#endif
