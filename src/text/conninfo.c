/*
 * conninfo.c
 *		Is there a secret in a conninfo?  In plain C: a setting is checked in
 *		each process, and libpq is in none of them.
 *
 * It is read as libpq does, as a URI or as keywords and values.  What libpq
 * would refuse is refused here, too, but for keywords that it does not know.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "text/conninfo.h"

#define KEYWORD_MAX		64		/* more is none that libpq knows */

static const char *const secrets[] = {
	"password", "sslpassword", "oauth_client_secret", "scram_client_key",
	"scram_server_key"
};

static bool
is_secret(const char *keyword)
{
	for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++)
	{
		if (strcmp(keyword, secrets[i]) == 0)
			return true;
	}
	return false;
}

static const char *
skip_space(const char *at)
{
	while (isspace((unsigned char) *at))
		at++;
	return at;
}

/* Behind a value, in quotes or bare; NULL where its quote is not closed. */
static const char *
skip_value(const char *at)
{
	bool		quoted = *at == '\'';

	if (quoted)
		at++;
	while (*at != '\0' && (quoted ? *at != '\'' : !isspace((unsigned char) *at)))
	{
		if (*at == '\\' && at[1] != '\0')
			at++;
		at++;
	}
	if (quoted && *at != '\'')
		return NULL;
	return quoted ? at + 1 : at;
}

static ApikeyConninfo
check_keywords(const char *at)
{
	char		keyword[KEYWORD_MAX];

	while (*(at = skip_space(at)) != '\0')
	{
		size_t		length = strcspn(at, "= \t\n\r\f\v");

		if (length == 0 || length >= KEYWORD_MAX)
			return APIKEY_CONNINFO_BROKEN;
		memcpy(keyword, at, length);
		keyword[length] = '\0';
		at = skip_space(at + length);
		if (*at != '=')
			return APIKEY_CONNINFO_BROKEN;
		if (is_secret(keyword))
			return APIKEY_CONNINFO_SECRET;
		at = skip_value(skip_space(at + 1));
		if (at == NULL)
			return APIKEY_CONNINFO_BROKEN;
	}
	return APIKEY_CONNINFO_OK;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char) tolower((unsigned char) c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Is a parameter of a URI, up to its "=", one with a secret? */
static bool
uri_parameter_is_secret(const char *at, size_t length)
{
	char		keyword[KEYWORD_MAX];
	size_t		used = 0;

	for (size_t i = 0; i < length && used < KEYWORD_MAX - 1; i++)
	{
		if (at[i] == '%' && i + 2 < length && hex_digit(at[i + 1]) >= 0 &&
			hex_digit(at[i + 2]) >= 0)
		{
			keyword[used++] = (char) (hex_digit(at[i + 1]) * 16 +
									  hex_digit(at[i + 2]));
			i += 2;
		}
		else
			keyword[used++] = at[i];
	}
	keyword[used] = '\0';
	return is_secret(keyword);
}

/* What stands before "@" is a user and perhaps, behind a colon, a password. */
static ApikeyConninfo
check_uri(const char *at)
{
	size_t		user = strcspn(at, "@/");

	if (at[user] == '@' && memchr(at, ':', user) != NULL)
		return APIKEY_CONNINFO_SECRET;
	at = strchr(at, '?');
	while (at != NULL)
	{
		size_t		length = strcspn(++at, "=&");

		if (at[length] != '=')
			return APIKEY_CONNINFO_BROKEN;
		if (uri_parameter_is_secret(at, length))
			return APIKEY_CONNINFO_SECRET;
		at = strchr(at, '&');
	}
	return APIKEY_CONNINFO_OK;
}

ApikeyConninfo
apikey_conninfo_check(const char *conninfo)
{
	static const char *const schemes[] = {"postgresql://", "postgres://"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
	{
		if (strncmp(conninfo, schemes[i], strlen(schemes[i])) == 0)
			return check_uri(conninfo + strlen(schemes[i]));
	}
	return check_keywords(conninfo);
}
