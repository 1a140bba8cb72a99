/*
 * piece.c
 *		Masking pieces of the keys and tokens that another text holds.
 *
 * A message may show a part of the statement that it is about, cut where
 * PostgreSQL's lexer ends a token and not where ours do: of a text without
 * quotes, what stands between two '-'.  Nothing in such a part says what it is,
 * so it is compared with the keys and tokens of the statement.  What comes
 * behind a prefix and an id is a secret, and so is each piece of it that has
 * as many characters as a piece has, in upper or lower case: names are folded.
 *
 * A piece fits into a number, so a set of numbers holds all of a text; the work
 * grows with both texts and no faster.  Pure C like keytext.c; where memory is
 * short, all that might be a piece is taken for one.
 */
#include "text/piece.h"

#include <stdlib.h>
#include <string.h>

#include "text/find.h"
#include "text/keytext.h"

static const char ellipsis[] = "...";

#define ELLIPSIS_LEN	(sizeof(ellipsis) - 1)
#define ROOM_MIN		64

/* The piece that ends with a character, given the one that ended before it. */
static uint64_t
piece_next(uint64_t piece, char c)
{
	return piece << 8 | (unsigned char) (c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* Where a piece is, or would be. */
static uint64_t *
piece_place(const ApikeyPieces *of, uint64_t piece)
{
	size_t		at = (size_t) (piece * UINT64_C(0x9E3779B97F4A7C15) >> 32);

	while (of->pieces[at & (of->room - 1)] != 0 &&
		   of->pieces[at & (of->room - 1)] != piece)
		at++;
	return &of->pieces[at & (of->room - 1)];
}

/* Are these characters such as keys and tokens are made of? */
static bool
piece_possible(uint64_t piece)
{
	for (int i = 0; i < APIKEY_PIECE_CHARS; i++, piece >>= 8)
	{
		char		c = (char) (piece & 0xFF);

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' ||
			  c == '_'))
			return false;
	}
	return true;
}

static bool
piece_known(const ApikeyPieces *of, uint64_t piece)
{
	if (of->lost)
		return piece_possible(piece);
	return of->room > 0 && *piece_place(of, piece) != 0;
}

/* Calls add with each piece of the keys and tokens in a text. */
static void
each_piece(const char *text, size_t len, ApikeyPieces *of,
		   void (*add) (ApikeyPieces *of, uint64_t piece))
{
	ApikeyFinder finder;
	ApikeyFound found = {0};

	apikey_find_begin(&finder, text, len, true);
	while (apikey_find_next(&finder, found.end, &found))
	{
		size_t		begin = found.body + APIKEY_ID_DIGITS;
		uint64_t	piece = 0;

		for (size_t at = begin; at < found.end; at++)
		{
			piece = piece_next(piece, text[at]);
			if (at + 1 >= begin + APIKEY_PIECE_CHARS)
				add(of, piece);
		}
	}
}

static void
count_piece(ApikeyPieces *of, uint64_t piece)
{
	(void) piece;
	of->room++;
}

static void
add_piece(ApikeyPieces *of, uint64_t piece)
{
	*piece_place(of, piece) = piece;
}

/* From here on those of a text count, and no others. */
void
apikey_piece_collect(ApikeyPieces *of, const char *text, size_t len)
{
	size_t		room = ROOM_MIN;

	apikey_piece_forget(of);
	each_piece(text, len, of, count_piece);
	if (of->room == 0)
		return;
	while (room < 2 * of->room)
		room *= 2;
	of->room = room;
	of->pieces = calloc(room, sizeof(uint64_t));
	of->lost = of->pieces == NULL;
	if (!of->lost)
		each_piece(text, len, of, add_piece);
}

/* Gives the memory back. */
void
apikey_piece_forget(ApikeyPieces *of)
{
	free(of->pieces);
	memset(of, 0, sizeof(*of));
}

/* Where a text that is masked in place has been read, and written, up to. */
typedef struct Masking
{
	char	   *text;
	size_t		done;
	size_t		out;
} Masking;

static void
copy_to(Masking *masking, size_t end)
{
	memmove(masking->text + masking->out, masking->text + masking->done,
			end - masking->done);
	masking->out += end - masking->done;
	masking->done = end;
}

static void
mask_to(Masking *masking, size_t end)
{
	memcpy(masking->text + masking->out, ellipsis, ELLIPSIS_LEN);
	masking->out += ELLIPSIS_LEN;
	masking->done = end;
}

/*
 * Masks the pieces in a text.  Returns its new length; the bytes behind it, up
 * to the old one, are zero.
 */
size_t
apikey_piece_mask(const ApikeyPieces *of, char *text, size_t len)
{
	Masking		masking = {.text = text};
	uint64_t	piece = 0;
	size_t		start = 0;		/* of the last pieces, where they hang together */
	size_t		end = 0;		/* 0: there was none */

	if (of->room == 0)
		return len;
	for (size_t at = 0; at < len; at++)
	{
		piece = piece_next(piece, text[at]);
		if (at + 1 < APIKEY_PIECE_CHARS || !piece_known(of, piece))
			continue;
		if (end == 0 || at + 1 - APIKEY_PIECE_CHARS > end)
		{
			copy_to(&masking, start);
			if (end > 0)
				mask_to(&masking, end);
			start = at + 1 - APIKEY_PIECE_CHARS;
		}
		end = at + 1;
	}
	copy_to(&masking, start);
	if (end > 0)
		mask_to(&masking, end);
	copy_to(&masking, len);
	memset(text + masking.out, 0, len - masking.out);
	return masking.out;
}
