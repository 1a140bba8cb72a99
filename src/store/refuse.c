/*
 * refuse.c
 *		How a value is refused.
 *
 * A refusal names the argument (also as the error's column) and the rule (as its
 * constraint), so that a form can show it where it belongs, and says the rule, with
 * the values that it has here, in its detail; the value that was refused is never
 * repeated.  A value that breaks a rule is SQLSTATE 22023, none where one must be is
 * 22004.
 */
#include "postgres.h"

#include "store/store.h"

/* The parts of an error that programs read: which argument, which rule. */
int
apikey_error_about(const char *argument, const char *constraint)
{
	err_generic_string(PG_DIAG_COLUMN_NAME, argument);
	return err_generic_string(PG_DIAG_CONSTRAINT_NAME, constraint);
}

/* Raises 22023 for an argument, with the rule that it broke, and its name. */
void
apikey_refuse_by(const char *constraint, const char *argument,
				 const char *rule)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"%s\"", argument),
			 errdetail("%s", rule),
			 apikey_error_about(argument, constraint)));
}

/* The same where an argument has one rule alone, which is called after it. */
void
apikey_refuse(const char *argument, const char *rule)
{
	apikey_refuse_by(psprintf("apikey_%s", argument), argument, rule);
}

/* Raises 22004 for an argument that must have a value. */
void
apikey_refuse_null(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("\"%s\" must not be null", argument),
			 apikey_error_about(argument,
								psprintf("apikey_%s_required", argument))));
}

/* Raises where an argument is null that must not be. */
void
apikey_require(FunctionCallInfo fcinfo, int number, const char *argument)
{
	if (PG_ARGISNULL(number))
		apikey_refuse_null(argument);
}

/* A text argument that must not be null. */
text *
apikey_required_text(FunctionCallInfo fcinfo, int number, const char *argument)
{
	apikey_require(fcinfo, number, argument);
	return PG_GETARG_TEXT_PP(number);
}

/* Raises that somebody has dropped the extension. */
void
apikey_refuse_gone(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("extension \"apikey\" does not exist")));
}
