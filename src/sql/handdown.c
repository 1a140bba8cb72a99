/*
 * handdown.c
 *		Handing conditions of a query on a view down to the function below it.
 *
 * The planner pushes conditions of leakproof operators into a view, and plans
 * the view's own query then.  There they are found, and what says that a column
 * equals a value, or lies on one side of it, becomes an argument: the argument
 * of a column's name.  The function may read less for it, and what it returns
 * is filtered all the same, so nothing hangs on this but time.
 *
 * The number of rows wanted is handed down too, where the query around the view
 * is nothing but SELECT ... FROM view ... ORDER BY ... LIMIT, its order is that
 * of the list, and the function is told of every condition in full: what it
 * leaves out then is what LIMIT would.
 *
 * The names that count in a function's arguments are those of its result's
 * columns, and
 *		since, before	bounds of the column by which the list is ordered:
 *						the first of created_at and id that there is (not the
 *						time of events, which a clock may set back)
 *		most, skip		LIMIT and OFFSET
 *		columns			the bits of the result's columns that are used
 * All are null where nothing was handed down.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define ARGUMENTS_MAX	16

/* A call that is being given arguments. */
typedef struct HandDown
{
	PlannerInfo *root;			/* of the view's own query */
	FuncExpr   *call;
	Index		varno;			/* of the call in it */
	int			inputs;			/* its arguments, the first of the names */
	int			count;
	char	  **names;			/* of arguments and then of result columns */
	Node	   *arguments[ARGUMENTS_MAX];	/* NULL: none */
	bool		complete;		/* it is told of every condition */
} HandDown;

/* The number of an argument; -1 where there is none of that name. */
static int
argument_named(const HandDown *down, const char *name)
{
	for (int i = 0; i < down->inputs; i++)
	{
		if (strcmp(down->names[i], name) == 0)
			return i;
	}
	return -1;
}

/* The attribute number of a result column; 0 where there is none. */
static AttrNumber
column_named(const HandDown *down, const char *name)
{
	for (int i = down->inputs; i < down->count; i++)
	{
		if (strcmp(down->names[i], name) == 0)
			return i - down->inputs + 1;
	}
	return 0;
}

/* The column that has the list's order. */
static AttrNumber
order_column(const HandDown *down)
{
	AttrNumber	column = column_named(down, "created_at");

	return column != 0 ? column : column_named(down, "id");
}

/* What is left of an expression without what only changes its type's name. */
static Node *
bare(Node *node)
{
	for (;;)
	{
		if (IsA(node, RelabelType))
			node = (Node *) ((RelabelType *) node)->arg;
		else if (IsA(node, CollateExpr))
			node = (Node *) ((CollateExpr *) node)->arg;
		else
			return node;
	}
}

/* The result column that an expression is; 0 for none. */
static AttrNumber
column_of(const HandDown *down, Node *node)
{
	Var		   *var = (Var *) bare(node);

	return IsA(var, Var) && var->varno == (int) down->varno &&
		var->varlevelsup == 0 && var->varattno > 0 ? var->varattno : 0;
}

static bool
depends_on_query(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
		case T_PlaceHolderVar:
		case T_Aggref:
		case T_GroupingFunc:
		case T_WindowFunc:
		case T_SubLink:
		case T_SubPlan:
		case T_AlternativeSubPlan:
		case T_CurrentOfExpr:
			return true;
		default:
			return expression_tree_walker(node, depends_on_query, context);
	}
}

/* Is an expression of one value while the view is read? */
static bool
is_value(Node *node)
{
	return !depends_on_query(node, NULL) && !contain_volatile_functions(node) &&
		!expression_returns_set(node);
}

/* The value, as a type; NULL where it is not easily made one. */
static Node *
value_as(Node *value, Oid type)
{
	Oid			from = exprType(value);

	if (from == type)
		return (Node *) copyObject(value);
	if (from == TEXTOID && type == NAMEOID)
		return (Node *) makeFuncExpr(F_NAME_TEXT, NAMEOID,
									 list_make1(copyObject(value)), InvalidOid,
									 exprCollation(value),
									 COERCE_IMPLICIT_CAST);
	if (from == INT4OID && type == INT8OID)
		return (Node *) makeFuncExpr(F_INT8_INT4, INT8OID,
									 list_make1(copyObject(value)), InvalidOid,
									 InvalidOid, COERCE_IMPLICIT_CAST);
	return NULL;
}

/* Hands a value down as an argument; false where it cannot be. */
static bool
give(HandDown *down, int argument, Node *value)
{
	Node	   *place;

	if (argument < 0 || down->arguments[argument] != NULL || !is_value(value))
		return false;
	place = list_nth(down->call->args, argument);
	down->arguments[argument] = value_as(value, exprType(place));
	return down->arguments[argument] != NULL;
}

/* What column <operator> value says of the column. */
typedef enum Said
{
	SAYS_NOTHING,
	SAYS_EQUAL,
	SAYS_BEFORE,
	SAYS_SINCE
} Said;

static Said
said_by(Oid operator, Oid collation)
{
	switch (get_opcode(operator))
	{
		case F_UUID_EQ:
		case F_INT8EQ:
		case F_INT84EQ:
			return SAYS_EQUAL;
		case F_TEXTEQ:
		case F_NAMEEQ:
		case F_NAMEEQTEXT:
			/* The same bytes, that is. */
			return OidIsValid(collation) &&
				get_collation_isdeterministic(collation) ? SAYS_EQUAL :
				SAYS_NOTHING;
		case F_TIMESTAMPTZ_LT:
		case F_INT8LT:
		case F_INT84LT:
			return SAYS_BEFORE;
		case F_TIMESTAMPTZ_GE:
		case F_INT8GE:
		case F_INT84GE:
			return SAYS_SINCE;
		default:
			return SAYS_NOTHING;
	}
}

/* Hands down column <operator> value; false where it cannot be. */
static bool
give_condition(HandDown *down, Node *column, Oid operator, Oid collation,
			   Node *value)
{
	AttrNumber	number = column_of(down, column);
	const char *argument;
	Said		said;

	if (number == 0 || !OidIsValid(operator))
		return false;
	said = said_by(operator, collation);
	if (said == SAYS_NOTHING ||
		(said != SAYS_EQUAL && number != order_column(down)))
		return false;
	argument = said == SAYS_BEFORE ? "before" : said == SAYS_SINCE ? "since" :
		down->names[down->inputs + number - 1];
	return give(down, argument_named(down, argument), value);
}

/* Hands down that a key has no project, as an empty path; false for all else. */
static bool
give_no_project(HandDown *down, const NullTest *test)
{
	AttrNumber	number = column_of(down, (Node *) test->arg);

	return number != 0 && test->nulltesttype == IS_NULL &&
		number == column_named(down, "project") && column_named(down, "owner") != 0 &&
		give(down, argument_named(down, "project"),
			 (Node *) makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
								CStringGetTextDatum(""), false, false));
}

/* Hands down what can be of a condition, and notes what cannot. */
static void
take_condition(HandDown *down, Node *condition)
{
	OpExpr	   *op = (OpExpr *) condition;
	ListCell   *cell;

	if (condition == NULL)
		return;
	if (IsA(condition, List) || is_andclause(condition))
	{
		foreach(cell, IsA(condition, List) ? (List *) condition :
				((BoolExpr *) condition)->args)
			take_condition(down, lfirst(cell));
		return;
	}
	if (IsA(condition, NullTest))
	{
		if (!give_no_project(down, (NullTest *) condition))
			down->complete = false;
		return;
	}
	if (!IsA(op, OpExpr) || list_length(op->args) != 2 ||
		(!give_condition(down, linitial(op->args), op->opno, op->inputcollid,
						 lsecond(op->args)) &&
		 !give_condition(down, lsecond(op->args), get_commutator(op->opno),
						 op->inputcollid, linitial(op->args))))
		down->complete = false;
}

/* All that stands in FROM; 0 where that is more, or something else. */
static Index
only_item(FromExpr *from)
{
	Node	   *item = (Node *) from;

	while (IsA(item, FromExpr) && list_length(((FromExpr *) item)->fromlist) == 1)
		item = linitial(((FromExpr *) item)->fromlist);
	return IsA(item, RangeTblRef) ? ((RangeTblRef *) item)->rtindex : 0;
}

/*
 * Is the query around the view nothing but SELECT ... FROM view, with LIMIT?
 * Then it is no other but this view that it reads.
 */
static bool
is_plain_select(const Query *query)
{
	return query->commandType == CMD_SELECT && query->limitCount != NULL &&
		query->limitOption == LIMIT_OPTION_COUNT && !query->hasAggs &&
		!query->hasWindowFuncs && !query->hasTargetSRFs &&
		!query->hasSubLinks && !query->hasDistinctOn &&
		query->cteList == NIL && query->groupClause == NIL &&
		query->groupingSets == NIL && query->havingQual == NULL &&
		query->distinctClause == NIL && query->setOperations == NULL &&
		query->rowMarks == NIL && only_item(query->jointree) != 0;
}

/* The result column that an expression of the query around the view is. */
static AttrNumber
column_of_view(const HandDown *down, Index view, Node *node)
{
	Var		   *var = (Var *) bare(node);
	List	   *outputs = down->root->parse->targetList;

	if (!IsA(var, Var) || var->varno != (int) view || var->varlevelsup != 0 ||
		var->varattno <= 0 || var->varattno > list_length(outputs))
		return 0;
	return column_of(down,
					 (Node *) ((TargetEntry *) list_nth(outputs,
														var->varattno - 1))->expr);
}

/* Does ORDER BY, as far as it goes, ask for the list's order? */
static bool
is_newest_first(const HandDown *down, Index view, const Query *query)
{
	AttrNumber	columns[2] = {order_column(down), column_named(down, "id")};
	int			count = columns[0] == columns[1] ? 1 : 2;
	int			n = 0;
	ListCell   *cell;

	foreach(cell, query->sortClause)
	{
		SortGroupClause *clause = lfirst(cell);
		RegProcedure greater = get_opcode(clause->sortop);

		if (n >= count ||
			(greater != F_TIMESTAMPTZ_GT && greater != F_UUID_GT &&
			 greater != F_INT8GT) ||
			column_of_view(down, view,
						   get_sortgroupclause_expr(clause, query->targetList)) != columns[n])
			return false;
		n++;
	}
	return true;
}

/* Hands down how many rows are wanted, where that is known. */
static void
take_limit(HandDown *down)
{
	PlannerInfo *outer = down->root->parent_root;
	Index		view;

	if (!down->complete || outer == NULL || !is_plain_select(outer->parse) ||
		outer->append_rel_list != NIL)
		return;
	view = only_item(outer->parse->jointree);
	if (!planner_rt_fetch(view, outer)->security_barrier ||
		outer->simple_rel_array[view] == NULL ||
		outer->simple_rel_array[view]->baserestrictinfo != NIL ||
		!is_newest_first(down, view, outer->parse))
		return;
	if (outer->parse->limitOffset != NULL &&
		!give(down, argument_named(down, "skip"), outer->parse->limitOffset))
		return;
	(void) give(down, argument_named(down, "most"), outer->parse->limitCount);
}

/* Hands down which columns are used, in the query or its conditions. */
static void
take_columns(HandDown *down)
{
	Bitmapset  *used = NULL;
	int			argument = argument_named(down, "columns");
	int64		bits = 0;

	if (argument < 0)
		return;
	pull_varattnos((Node *) down->root->parse->targetList, down->varno, &used);
	pull_varattnos((Node *) down->root->parse->jointree, down->varno, &used);
	/* The row as a whole is all of them. */
	if (bms_is_member(-FirstLowInvalidHeapAttributeNumber, used))
		return;
	for (int i = 1; i <= down->count - down->inputs; i++)
	{
		if (bms_is_member(i - FirstLowInvalidHeapAttributeNumber, used))
			bits |= INT64CONST(1) << (i - 1);
	}
	down->arguments[argument] = (Node *) makeConst(INT8OID, -1, InvalidOid,
												   sizeof(int64),
												   Int64GetDatum(bits), false,
												   FLOAT8PASSBYVAL);
}

/* Finds the call in the query: it must be all that stands in FROM. */
static bool
find_call(HandDown *down)
{
	Query	   *query = down->root->parse;
	RangeTblEntry *entry;
	Node	   *call;

	if (query->commandType != CMD_SELECT || query->hasTargetSRFs ||
		query->jointree == NULL || list_length(query->jointree->fromlist) != 1 ||
		!IsA(linitial(query->jointree->fromlist), RangeTblRef))
		return false;
	down->varno = ((RangeTblRef *) linitial(query->jointree->fromlist))->rtindex;
	entry = rt_fetch(down->varno, query->rtable);
	if (entry->rtekind != RTE_FUNCTION || entry->funcordinality ||
		list_length(entry->functions) != 1)
		return false;
	call = ((RangeTblFunction *) linitial(entry->functions))->funcexpr;
	return IsA(call, FuncExpr) &&
		((FuncExpr *) call)->funcid == down->call->funcid;
}

/* Reads the names of the function's arguments and result columns. */
static bool
read_names(HandDown *down)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID,
										ObjectIdGetDatum(down->call->funcid));
	Oid		   *types;
	char	   *modes;

	if (!HeapTupleIsValid(tuple))
		return false;
	down->count = get_func_arg_info(tuple, &types, &down->names, &modes);
	ReleaseSysCache(tuple);
	down->inputs = list_length(down->call->args);
	return down->names != NULL && down->inputs <= ARGUMENTS_MAX &&
		down->inputs <= down->count;
}

/* A call with the arguments that it had and those handed down. */
static Node *
new_call(const HandDown *down)
{
	FuncExpr   *call = makeNode(FuncExpr);
	List	   *args = NIL;

	for (int i = 0; i < down->inputs; i++)
		args = lappend(args, down->arguments[i] != NULL ? down->arguments[i] :
					   list_nth(down->call->args, i));
	*call = *down->call;
	call->args = args;
	return (Node *) call;
}

/* Has a call no argument that is not null? */
static bool
is_bare_call(const FuncExpr *call)
{
	ListCell   *cell;

	foreach(cell, call->args)
	{
		Const	   *argument = lfirst(cell);

		if (!IsA(argument, Const) || !argument->constisnull)
			return false;
	}
	return true;
}

/*
 * _apikey_list_support(internal) returns internal
 *		The planner's support function of the functions below the views.
 */
PG_FUNCTION_INFO_V1(_apikey_list_support);
Datum
_apikey_list_support(PG_FUNCTION_ARGS)
{
	SupportRequestSimplify *request =
		(SupportRequestSimplify *) PG_GETARG_POINTER(0);
	HandDown	down = {.complete = true};

	if (!IsA(request, SupportRequestSimplify) || request->root == NULL ||
		!is_bare_call(request->fcall))
		PG_RETURN_POINTER(NULL);
	down.root = request->root;
	down.call = request->fcall;
	if (!find_call(&down) || !read_names(&down))
		PG_RETURN_POINTER(NULL);
	take_condition(&down, down.root->parse->jointree->quals);
	take_limit(&down);
	take_columns(&down);
	PG_RETURN_POINTER(new_call(&down));
}
