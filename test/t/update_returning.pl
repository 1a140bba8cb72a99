# What an UPDATE of a view returns is what a SELECT shows that follows, of every
# column, whichever has been set: also what only follows from what was set, as a
# key's status does, or what is left of a limit.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
});
$node->start;
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sql('CREATE EXTENSION apikey CASCADE', 'CREATE ROLE alice', q{SELECT apikey_organization_create('acme')},
	q{SELECT apikey_project_create('acme/pay'), apikey_member_add('acme', 'alice', 'owner')});
my %key = map { $_->[0] => sql('SET ROLE alice', "SELECT apikey_create('$_->[0]'$_->[1], rate_limit => 10, rate_window => '30 days', credits => 50)") }
	['personal', ''], ['of-project', q{, 'acme/pay', role => 'admin'}];
my %limit = map { $_->[0] => sql('SET ROLE alice', "SELECT apikey_limit_set('requests', 20, $_->[1], '$_->[0]', path => 'acme/pay')") }
	['rate', q{'30 days'}], ['quota', q{'1 day'}], ['balance', 'NULL'];
# All of them have been spent of, each as soon as there is a lease of it.
for my $name (sort keys %key)
{
	my $valid;
	my $whose = $name eq 'personal' ? q{owner => 'alice'} : q{project => 'acme/pay'};
	for (1 .. 100)
	{
		last if $valid = sql('SET ROLE alice', "SELECT count(*) FROM apikey_verify('$key{$name}', $whose, cost => 3) WHERE code = 'valid'");
	}
	is($valid, 1, "$name is verified");
}

# Of each view its rows, and what its columns are set to, one after the other.
my %set = (
	apikeys => {
		rows => [map { "apikey_id('$_')" } values %key],
		columns => {
			description => [q{'text'}, 'NULL'],
			role => [q{'developer'}, q{'owner'}],
			scopes => [q{'{b,a}'}, q{'{}'}],
			starts_at => [q{now() + interval '1 hour'}, q{now() - interval '1 hour'}, 'NULL'],
			expires_at => [q{now() - interval '1 hour'}, q{now() + interval '1 hour'}, 'NULL'],
			rate_limit => [5, 'NULL', 12],
			rate_window => [q{'20 days'}, q{'30 days'}],
			credits => [7, 'NULL', 90, 'credits - 1'],
			'credits_refill, credits_interval' => [q{(5, interval '1 day')}, '(NULL, NULL)'],
			allowed_ips => [q{'{10.0.0.0/8,192.0.2.1/32}'}, 'NULL'],
			metadata => [q{'{"b": 1, "a": [2]}'}, q{'{}'}],
		},
	},
	apikey_projects => {
		rows => [q{(SELECT id FROM apikey_projects WHERE path = 'acme/pay')}],
		columns => {
			members_can_view => ['true', 'false'],
			name_pattern => [q{'^[a-z-]+$'}, 'NULL'],
			max_ttl => [q{'30 days'}, 'NULL'],
			max_keys => [50, 'NULL'],
			terms => [q{'be good'}, 'NULL'],
			revealable => ['true', 'false'],
			max_idle => [q{'90 days'}, q{'80 days'}, 'NULL'],
		},
	},
	apikey_limits => {
		rows => [map { "'$limit{$_}'" } qw(quota rate balance)],
		columns => {
			amount => [50, 2, 10],
			period => [q{'25 days'}, q{'28 days'}],
			shared => ['true', 'false'],
			overdraft => [4, 0],
		},
	});
my %other = (uuid => 'gen_random_uuid()', text => q{'other'}, name => q{'other'}, 'timestamp with time zone' => q{'2020-01-01'},
	bigint => 7, integer => 7, boolean => 'NOT revealable', inet => q{'10.0.0.1'}, apikey_role => q{'developer'});

# A row as it was before an UPDATE, as that returns it, and as it is then: in its
# transaction, and after it.
sub row { my ($view, $id) = @_; return "SELECT to_jsonb(v) FROM $view v WHERE id = $id" }
sub check
{
	my ($role, $level, $view, $id, $change) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', join ";\n", "SET ROLE $role", row($view, $id), "BEGIN ISOLATION LEVEL $level",
		"UPDATE $view v SET $change WHERE id = $id RETURNING to_jsonb(v)", row($view, $id), 'COMMIT', row($view, $id));
	return $err if $rc != 0;
	my ($before, $returned, $within, $after) = split /\n/, $out;
	return 'nothing has changed' if $returned eq $before;
	return $returned eq $within && $returned eq $after ? '' : "returned $returned\nwithin   $within\nafter    $after";
}

my $superuser = sql('SELECT current_user');
for my $view (sort keys %set)
{
	my %columns = %{ $set{$view}{columns} };
	my %settable = map { $_ => 1 } map { split /, / } keys %columns;
	my @all = map { [split /\|/] } split /\n/, sql("SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = '$view'::regclass AND attnum > 0 ORDER BY attnum");
	my @row = @{ $set{$view}{rows} };
	my $taken = join ' ', grep { !$settable{$_} } map
	{
		my ($column, $type) = @$_;
		my ($rc, $out, $err) = $node->psql('postgres', "UPDATE $view SET $column = $other{$type} WHERE id = $row[0]") if !$settable{$column};
		$settable{$column} || $err =~ /cannot be updated/ ? () : $column;
	} @all;
	is($taken, '', "$view: no other column is set");
	for my $id (@row)
	{
		my $kind = $view eq 'apikey_limits' ? sql("SELECT kind FROM apikey_limits WHERE id = $id") : '';
		my $personal = $view eq 'apikeys' && sql("SELECT project IS NULL FROM apikeys WHERE id = $id") eq 't';
		my $turn = 0;
		for my $column (sort keys %columns)
		{
			next if $personal && $column eq 'role';
			next if $column eq 'period' && $kind eq 'balance' || $column eq 'shared' && $kind ne 'rate' || $column eq 'overdraft' && $kind eq 'rate';
			for my $value (@{ $columns{$column} })
			{
				my $role = ('alice', $superuser)[$turn % 2];
				my $level = ('READ COMMITTED', 'REPEATABLE READ')[$turn++ / 2 % 2];
				my $left = $column =~ /,/ ? "($column)" : $column;
				is(check($role, $level, $view, $id, "$left = $value"), '', join ' ', $view, $kind || ($personal ? 'personal' : ()), "$left = $value, by $role, $level");
			}
		}
	}
}

note 'What follows from what is set.';
sub returned { my ($view, $id, $change, $columns) = @_; return sql('SET ROLE alice', "UPDATE $view SET $change WHERE id = $id RETURNING $columns") }
my $id = "apikey_id('$key{'of-project'}')";
is(returned('apikeys', $id, q{expires_at = '2020-01-01'}, 'status'), 'expired', 'an expired key');
is(returned('apikeys', $id, 'expires_at = NULL', 'status'), 'active', 'that is valid again');
is(returned('apikeys', $id, q{starts_at = '2090-01-01'}, 'status'), 'scheduled', 'one that is yet to begin');
is(returned('apikeys', $id, 'starts_at = NULL', 'status, updated_at > created_at'), 'active|t', 'that has begun');
is(returned('apikeys', $id, q{role = 'developer'}, 'effective_role'), 'developer', 'what it may');
is(returned('apikey_limits', "'$limit{quota}'", 'amount = 100', 'remaining'), sql(q{SELECT 100 - 3}), 'what a quota has left');
is(returned('apikey_limits', "'$limit{balance}'", 'amount = 100', 'remaining'), 97, 'a balance');
my $end = "SELECT resets_at FROM apikey_limits WHERE id = '$limit{quota}'";
my $before = sql($end);
my $returned = returned('apikey_limits', "'$limit{quota}'", q{period = '1 month'}, 'resets_at');
isnt($returned, $before, 'the end of another period');
is($returned, sql($end), 'as it is');
done_testing;
