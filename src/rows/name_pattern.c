/*
 * name_pattern.c
 *		What a project's pattern for names may be.
 *
 * Its owner writes it, and others' calls compile it and match names with it.  So
 * it has neither what the server matches by trying all that is possible, nor what
 * becomes so large that compiling it takes seconds: an automaton in which each
 * repetition stands as often as it may be.  How large that gets is told from the
 * text, before anything is compiled.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "regex/regex.h"
#include "utils/builtins.h"

#include "text/text.h"
#include "rows/rows_internal.h"

#define PATTERN_CHARS_MAX	200
#define PATTERN_COST_MAX	120000	/* compiles in less than a second */
#define PATTERN_EDGES_MAX	12		/* the same; each may double it */
#define MUCH				1000000	/* more than that is not counted */
#define TIMES_MAX			256		/* of a repetition, one more than may be */

/* What a part of a pattern becomes. */
typedef struct PatternSize
{
	int64		arcs;			/* by which a character leads on */
	int64		skips;			/* that lead on without one */
	int64		edges;			/* constraints by the next and last character */
	bool		constrained;	/* has any constraint */
} PatternSize;

/* What may match no character at all. */
typedef struct PatternEmpty
{
	bool		other;			/* an earlier alternative of this group */
	bool		before;			/* what stands before the last part in this one */
	bool		last;			/* the last part */
} PatternEmpty;

/* A parenthesis that is open. */
typedef struct PatternGroup
{
	PatternSize before;			/* of what stands before it */
	PatternEmpty empty;
	bool		looks;			/* a constraint that looks ahead or behind */
} PatternGroup;

typedef struct PatternScan
{
	const pg_wchar *codes;
	int			count;
	int			at;
	PatternGroup groups[PATTERN_CHARS_MAX];
	int			depth;
	int			looking;		/* groups of them that look */
	PatternSize all;			/* since the last parenthesis was opened */
	PatternSize last;			/* what a quantifier is of */
	PatternEmpty empty;
	pg_wchar	seen[PATTERN_CHARS_MAX];	/* different characters */
	int			seen_count;
	int			colors;			/* into how many sets all characters fall */
	bool		looks;			/* has such a constraint */
	bool		nested;			/* has one within another */
	bool		circles;		/* repeats constraints without a character between */
} PatternScan;

static const PatternEmpty nothing = {.before = true, .last = true};

/* The character at some distance from where the scan is; 0 behind the end. */
static pg_wchar
peek(const PatternScan *scan, int distance)
{
	return scan->at + distance < scan->count ?
		scan->codes[scan->at + distance] : 0;
}

static pg_wchar
next(PatternScan *scan)
{
	pg_wchar	code = peek(scan, 0);

	scan->at++;
	return code;
}

static void
see(PatternScan *scan, pg_wchar code)
{
	for (int i = 0; i < scan->seen_count; i++)
	{
		if (scan->seen[i] == code)
			return;
	}
	if (scan->seen_count < PATTERN_CHARS_MAX)
		scan->seen[scan->seen_count++] = code;
}

/* Adds a part so many times. */
static void
add(PatternSize *to, const PatternSize *part, int times)
{
	to->arcs = Min(to->arcs + part->arcs * times, MUCH);
	to->skips = Min(to->skips + part->skips * times, MUCH);
	to->edges = Min(to->edges + part->edges * times, MUCH);
	to->constrained |= part->constrained;
}

/* What comes next in an alternative. */
static void
add_part(PatternScan *scan, PatternSize part, bool empty)
{
	add(&scan->all, &part, 1);
	scan->last = part;
	scan->empty.before &= scan->empty.last;
	scan->empty.last = empty;
}

/* A part that a character matches, by so many arcs. */
static void
add_atom(PatternScan *scan, int arcs)
{
	add_part(scan, (PatternSize) {.arcs = arcs}, false);
}

/*
 * What holds where a character follows or has gone before, or none.  To compile
 * it is to try both for each; at a word's end or its beginning there are two ways
 * to hold.
 */
static void
add_edge(PatternScan *scan, int ways)
{
	add_part(scan, (PatternSize) {.arcs = scan->colors, .edges = ways, .constrained = true}, true);
}

/* May what an open group, or the whole, has so far match no character? */
static bool
may_be_empty(const PatternScan *scan)
{
	return scan->empty.other || (scan->empty.before && scan->empty.last);
}

/* Behind a backslash; "\c" takes the character after it, whatever it is. */
static void
pass_escape(PatternScan *scan)
{
	pg_wchar	code = next(scan);

	see(scan, code);
	if (code == 'c')
		see(scan, next(scan));
}

/* Behind "[." or the like: up to what closes it.  A class is seen as one. */
static void
pass_class(PatternScan *scan)
{
	pg_wchar	kind = next(scan);
	pg_wchar	class = MUCH * 10;

	while (scan->at < scan->count && !(peek(scan, 0) == kind && peek(scan, 1) == ']'))
		class += next(scan);
	see(scan, class);
	scan->at += 2;
}

/* Behind "[".  What names its characters one by one has as many arcs. */
static void
pass_bracket(PatternScan *scan)
{
	bool		wide = peek(scan, 0) == '^';
	int			members = 0;

	if (wide)
		scan->at++;
	do
	{
		pg_wchar	code = next(scan);
		pg_wchar	after = peek(scan, 0);

		members++;
		if (code == '\\')
			pass_escape(scan);
		else if (code == '[' && (after == '.' || after == '=' || after == ':'))
			pass_class(scan);
		else
			see(scan, code);
		wide |= code == '\\' || code == '[' || code == '-';
	} while (scan->at < scan->count && peek(scan, 0) != ']');
	scan->at++;
	add_atom(scan, wide ? scan->colors : members);
}

static void
pass_comment(PatternScan *scan)
{
	while (scan->at < scan->count && next(scan) != ')')
		 /* more */ ;
}

/* Behind "(". */
static void
open_group(PatternScan *scan)
{
	bool		looks = false;

	if (peek(scan, 0) == '?')
	{
		pg_wchar	kind = peek(scan, 1);

		scan->at += kind == '<' ? 3 : 2;
		if (kind == '#')
		{
			pass_comment(scan);
			return;
		}
		looks = kind != ':';
	}
	scan->nested |= looks && scan->looking > 0;
	scan->looks |= looks;
	scan->looking += looks ? 1 : 0;
	scan->groups[scan->depth++] = (PatternGroup) {
		.before = scan->all, .empty = scan->empty, .looks = looks
	};
	scan->all = scan->last = (PatternSize) {0};
	scan->empty = nothing;
}

static void
close_group(PatternScan *scan)
{
	PatternGroup *group;
	PatternSize part = scan->all;
	bool		empty = may_be_empty(scan);

	if (scan->depth == 0)
		return;
	group = &scan->groups[--scan->depth];
	if (part.arcs == 0)
		part.arcs = 1;
	if (group->looks)
	{
		part.skips++;
		part.constrained = true;
	}
	scan->all = group->before;
	scan->empty = group->empty;
	scan->looking -= group->looks ? 1 : 0;
	add_part(scan, part, empty || group->looks);
}

/* Behind "|". */
static void
begin_alternative(PatternScan *scan)
{
	scan->all.skips++;
	scan->empty.other = may_be_empty(scan);
	scan->empty.before = scan->empty.last = true;
}

static int
pass_number(PatternScan *scan)
{
	int			number = 0;

	while (peek(scan, 0) >= '0' && peek(scan, 0) <= '9')
	{
		number = number * 10 + (int) (next(scan) - '0');
		number = Min(number, TIMES_MAX);
	}
	return number;
}

/*
 * A quantifier: how often its part stands there then, and how many skips come.
 * Constraints that come again without a character between are circles, of which
 * all ways through are tried where the pattern is compiled.
 */
static void
repeat_last(PatternScan *scan, int times, int skips, bool once)
{
	PatternSize part = scan->last;

	if (peek(scan, 0) == '?')
		scan->at++;
	times = Max(times, 1);
	scan->circles |= !once && scan->empty.last && part.constrained;
	add(&scan->all, &part, times - 1);
	add(&scan->last, &part, times - 1);
	part = (PatternSize) {.skips = skips};
	add(&scan->all, &part, 1);
	add(&scan->last, &part, 1);
}

/* Behind "{". */
static void
pass_bounds(PatternScan *scan)
{
	int			least = pass_number(scan);
	int			most = least;
	bool		endless = false;

	if (peek(scan, 0) == ',')
	{
		scan->at++;
		endless = peek(scan, 0) == '}';
		most = endless ? least + 1 : pass_number(scan);
	}
	scan->at++;
	repeat_last(scan, most, Max(most - least, 0), !endless && most <= 1);
	scan->empty.last |= least == 0;
}

/* Passes "[[:<:]]" or "[[:>:]]" behind its "[", which is no bracket's. */
static bool
pass_word_end(PatternScan *scan)
{
	pg_wchar	side = peek(scan, 2);

	if (peek(scan, 0) != '[' || peek(scan, 1) != ':' || (side != '<' && side != '>') ||
		peek(scan, 3) != ':' || peek(scan, 4) != ']' || peek(scan, 5) != ']')
		return false;
	scan->at += 6;
	return true;
}

static void
pass_one(PatternScan *scan)
{
	pg_wchar	code = next(scan);

	if (code == '(')
		open_group(scan);
	else if (code == ')')
		close_group(scan);
	else if (code == '[' && pass_word_end(scan))
		add_edge(scan, 1);
	else if (code == '[')
		pass_bracket(scan);
	else if (code == '|')
		begin_alternative(scan);
	else if (code == '*' || code == '?')
	{
		repeat_last(scan, 1, 1, code == '?');
		scan->empty.last = true;
	}
	else if (code == '+')
		repeat_last(scan, 2, 1, false); /* (x)+ becomes x*(x) */
	else if (code == '{' && peek(scan, 0) >= '0' && peek(scan, 0) <= '9')
		pass_bounds(scan);
	else if (code == '^' || code == '$')
		add_edge(scan, 1);
	else if (code == '\\')
	{
		pg_wchar	escaped = peek(scan, 0);

		pass_escape(scan);
		if (escaped == 'y' || escaped == 'Y')
			add_edge(scan, 2);
		else if (escaped == 'A' || escaped == 'Z' || escaped == 'm' || escaped == 'M')
			add_edge(scan, 1);
		else
			add_atom(scan, scan->colors);
	}
	else if (code == '.')
		/* One arc is enough for all characters, unless something looks. */
		add_atom(scan, scan->looks ? scan->colors : 1);
	else
	{
		see(scan, code);
		add_atom(scan, 1);
	}
}

/* What is wrong with a pattern's text, whatever it means; NULL for nothing. */
static const char *
fault_of_text(const text *pattern)
{
	PatternScan		scan = {.colors = 1};

	scan.codes = apikey_unicode_decode(pattern, &scan.count);
	if (scan.codes == NULL || scan.count < 1 || scan.count > PATTERN_CHARS_MAX)
		return APIKEY_NAME_PATTERN_RULE;
	/* The first time for which characters there are, the second for the size. */
	for (int turn = 0; turn < 2; turn++)
	{
		scan.colors = scan.seen_count + 1;
		scan.at = scan.depth = scan.looking = 0;
		scan.all = scan.last = (PatternSize) {0};
		scan.empty = nothing;
		while (scan.at < scan.count)
			pass_one(&scan);
		while (scan.depth > 0)
			close_group(&scan);
	}
	if (scan.nested)
		return "A name pattern has no lookahead or lookbehind constraint within another.";
	if (scan.circles)
		return "A name pattern repeats no constraint, such as \"^\", \"\\y\" or \"(?=\", without a character that it has to match between.";
	if (scan.all.edges > PATTERN_EDGES_MAX)
		return "A name pattern has at most 12 constraints, such as \"^\", \"$\" or \"\\m\", with all of its repetitions; \"\\y\" and \"\\Y\" are two.";
	if (scan.all.arcs * (scan.all.skips + 1) > PATTERN_COST_MAX)
		return "A name pattern is too large with all of its repetitions: use fewer, shorter ones, or \"*\" and \"+\", since a name has at most 64 characters.";
	return NULL;
}

/* A pattern as one that matches whole texts. */
static text *
whole_pattern(const text *pattern)
{
	return cstring_to_text(psprintf("^(?:%s)$", text_to_cstring(pattern)));
}

/* Compiled as textregexeq() compiles it, which finds it then. */
static const regex_t *
compile(const text *pattern)
{
	return RE_compile_and_cache(whole_pattern(pattern),
								REG_ADVANCED | REG_NOSUB, C_COLLATION_OID);
}

/*
 * What is wrong with a pattern; NULL for nothing.  Raises where it is no regular
 * expression.
 */
const char *
apikey_name_pattern_fault(const text *pattern)
{
	const char *fault = fault_of_text(pattern);

	if (fault == NULL && (compile(pattern)->re_info & REG_UBACKREF) != 0)
		fault = "A name pattern has no back references.";
	return fault;
}

/* Does a pattern that has no fault match a whole name? */
bool
apikey_name_pattern_matches(const text *pattern, text *name)
{
	return DatumGetBool(DirectFunctionCall2Coll(textregexeq, C_COLLATION_OID,
												PointerGetDatum(name),
												PointerGetDatum(whole_pattern(pattern))));
}

/* A pattern that is being set must compile as it stands, too. */
void
apikey_name_pattern_compile(text *pattern)
{
	(void) RE_compile_and_cache(pattern, REG_ADVANCED | REG_NOSUB,
								C_COLLATION_OID);
}
