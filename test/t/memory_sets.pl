# What stands in memory in sets of a few: nobody can choose keys that stand where
# another's does, and nobody has more of a full set than its share.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A server with so many tracked keys, and a table of keys by their owners.
sub start
{
	my ($name, $keys) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = $keys
apikey.flush_interval = '1h'
apikey.subject_setting = 'app.caller'
});
	$node->start;
	$node->safe_psql('postgres', q{
		CREATE EXTENSION apikey CASCADE;
		CREATE ROLE shop; CREATE ROLE modest;
		CREATE TABLE key (n serial, owner text DEFAULT current_user, name text, text text, id uuid GENERATED ALWAYS AS (apikey_id(text)) STORED);
		GRANT ALL ON key, key_n_seq TO PUBLIC});
	return $node;
}

sub sql { my ($node, $role, @sql) = @_; return $node->safe_psql('postgres', "SET ROLE $role; " . join '; ', @sql) }

sub make_keys
{
	my ($node, $role, $name, $count, $path) = @_;
	my $project = defined $path ? "project => '$path'" : 'NULL';
	sql($node, $role, "INSERT INTO key (name, text) SELECT '$name', apikey_create('$name-' || i || '-' || txid_current(), $project) FROM generate_series(1, $count) i");
}

# Calls a function for all of some keys; returns how often each answer came.
sub each_key
{
	my ($node, $role, $name, $call) = @_;
	return sql($node, $role, "SELECT string_agg(a || '|' || n, ' ' ORDER BY a) FROM (SELECT a, count(*) n FROM (SELECT * FROM key WHERE name = '$name' ORDER BY n) k, LATERAL (SELECT $call) v(a) GROUP BY 1) a");
}

my $verify = q{(SELECT code FROM apikey_verify(text, owner => owner::regrole, cost => 0, costs => '%s'))};
my $units = 'ARRAY(SELECT i FROM generate_series(0, 7) i)';
my $eight = '{' . (join ', ', map { qq{"v$_": %d} } 0 .. 7) . '}';
sub eight { return sprintf $verify, sprintf $eight, ($_[0]) x 8 }
my $tokens = sprintf $verify, '{"tokens": 1000}';
my $give_back = q{apikey_charge(id, '{"tokens": -700}', owner => owner::regrole)::text};
my $left = q{(SELECT remaining::text FROM apikey_limits l WHERE l.key_id = key.id AND unit = 'tokens')};

# The hashes that 0.1.0 had, as SQL has them, too: where a key's counts stand, of
# 2,000 sets of 16 and of 1,000 sets of 8.
my $many = start('many', 16000);
my $of_tallies = q{(uuid_hash_extended(%s.id, (SELECT oid::bigint FROM pg_database WHERE datname = current_database())) >> 32 & 4294967295) %% 2000};
my $of_history = '(uuid_hash(%s.id)::bigint & 4294967295) %% 1000';
make_keys($many, 'shop', 'victim', 3);
sql($many, 'shop', q{SELECT apikey_limit_set('tokens', 10000, '31 days', 'quota', key => id) FROM key WHERE name = 'victim'});
is(each_key($many, 'shop', 'victim', $tokens), 'valid|3', 'three keys spend of their quotas');

# Two keys for each of them, of which eight counts each fill the sets.
sub find_meeting
{
	my ($name, $set, $wanted) = @_;
	my ($of_victim, $of_own) = (sprintf($set, 'v'), sprintf($set, 'k'));
	$many->safe_psql('postgres', qq{
		UPDATE key SET name = '$name' WHERE n IN (SELECT n FROM (SELECT k.n, row_number() OVER (PARTITION BY v.n) r
		FROM key k JOIN key v ON v.name = 'victim' AND k.name = 'any' AND $of_own = $of_victim) m WHERE r <= $wanted)});
	my $found = $many->safe_psql('postgres', "SELECT count(*) FROM key WHERE name = '$name'");
	$many->safe_psql('postgres', "UPDATE key SET name = 'any' WHERE name = '$name'") if $found < 3 * $wanted;
	return $found == 3 * $wanted;
}

sub make_meeting
{
	my ($name, $set, $wanted) = @_;
	for (1 .. 60)
	{
		return 1 if find_meeting($name, $set, $wanted);
		make_keys($many, 'shop', 'any', 1000);
	}
	return 0;
}
ok(make_meeting('tallies', $of_tallies, 2), 'keys that would meet them');
ok(make_meeting('history', $of_history, 1), 'and others');
sql($many, 'shop', qq{SELECT count(apikey_limit_set('v' || i, 9007199254740992, NULL, 'balance', key => id)) FROM key, unnest($units) i WHERE name IN ('tallies', 'history')});
is(each_key($many, 'shop', 'tallies', eight(1 << 30)), 'valid|6', 'spend as much as they like') for 1 .. 3;
each_key($many, 'shop', 'victim', $give_back);
# One of them may meet another by chance, once in 4,000,000 times.
like(sql($many, 'shop', qq{SELECT count(*) FROM key WHERE name = 'victim' AND $left = '9700'}), qr/^[23]$/, 'and those give back what they have spent');

# What was refused, and who asked.
$many->safe_psql('postgres', 'SELECT apikey_flush()');
is(each_key($many, 'shop', 'history', eight(1)), 'valid|3', 'keys fill the sets of the history');
my $refused = q{(SELECT code FROM apikey_verify(text, '{x}', owner => owner::regrole))};
make_keys($many, 'modest', 'own', 1);
sql($many, 'modest', 'SET app.caller = \'vera\'', "SELECT $refused FROM key WHERE name = 'own'");
is(each_key($many, 'shop', 'victim', $refused), 'insufficient_scope|3', 'the three are refused');
is(sql($many, 'shop', "SET app.caller = 'flood'", "SELECT count(*) FROM (SELECT * FROM key WHERE name = 'any' LIMIT 5000) key WHERE $refused = 'insufficient_scope'"),
	$many->safe_psql('postgres', "SELECT least(count(*), 5000) FROM key WHERE name = 'any'"), 'so are thousands of others');
$many->safe_psql('postgres', 'SELECT apikey_flush()');
like($many->safe_psql('postgres', q{SELECT count(*) FROM apikey_usage_history JOIN key ON id = key_id WHERE name = 'victim' AND denied = '{"insufficient_scope": 1}'}),
	qr/^[23]$/, 'and the history tells of them');
ok($many->poll_query_until('postgres', q{SELECT count(*) > 0 FROM apikey_events WHERE event = 'denied' AND actor = 'modest'}), 'an event tells of another one');
is($many->safe_psql('postgres', q{SELECT actor_subject FROM apikey_events WHERE event = 'denied' AND actor = 'modest'}), 'vera', 'and who asked, however many others did');
$many->stop;

# Where one role fills all sets, another one keeps what it has, and gets more: 16
# sets of tallies, and 16 of the history.
my $few = start('few', 128);
$few->safe_psql('postgres', q{CREATE ROLE greedy; GRANT EXECUTE ON FUNCTION apikey_organization_create TO greedy});
sql($few, 'greedy', q{SELECT apikey_organization_create('g'), apikey_project_create('g/p')},
	qq{SELECT count(apikey_limit_set('v' || i, 9007199254740992, NULL, 'balance', path => 'g/p')) FROM unnest($units) i});
make_keys($few, 'greedy', 'all', 90, 'g/p');
make_keys($few, 'modest', $_, 4) for 'before', 'after';
sql($few, 'modest', q{SELECT apikey_limit_set('tokens', 10000, '31 days', 'quota', key => id) FROM key WHERE owner = 'modest'});
my $fill = eight(1 << 30);
$fill =~ s/owner => owner::regrole/project => 'g\/p'/;
# Until all have a lease, for which a verification waits no longer than 100 ms.
sub all_spend
{
	my ($name) = @_;
	my $got = '';
	for (1 .. 20)
	{
		last if ($got = each_key($few, 'greedy', 'all', $fill)) eq 'valid|90';
	}
	return is($got, 'valid|90', $name);
}
is(each_key($few, 'modest', 'before', $tokens), 'valid|4', 'keys spend');
all_spend('another role\'s spend more') for 1 .. 2;
is(each_key($few, 'modest', 'after', $tokens), 'valid|4', 'others of the first do');
all_spend('and those again');
each_key($few, 'modest', $_, $give_back) for 'before', 'after';
is(sql($few, 'modest', "SELECT name, $left, count(*) FROM key WHERE owner = 'modest' GROUP BY 1, 2 ORDER BY 1"), "after|9700|4\nbefore|9700|4", 'all give back what they have spent');
$few->safe_psql('postgres', 'SELECT apikey_flush()');
all_spend('the others fill the sets of the history');
is(each_key($few, 'modest', 'before', $refused), 'insufficient_scope|4', 'keys are refused');
all_spend('and the others go on');
$few->safe_psql('postgres', 'SELECT apikey_flush()');
is($few->safe_psql('postgres', q{SELECT count(*) FROM apikey_usage_history JOIN key ON id = key_id WHERE name = 'before' AND denied = '{"insufficient_scope": 1}'}),
	'4', 'the history tells of all refusals');
# What gave way is not counted, and what came anew is counted once.
is($few->safe_psql('postgres', q{SELECT count(*) FROM apikey_usage_history, jsonb_each_text(spent) WHERE value::bigint < 0}), '0', 'and of nothing that was not spent');
$few->stop;
done_testing();
