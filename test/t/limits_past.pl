# A transaction that reads as of before sees no limit that was set since.  What
# it does to a key or a project cannot leave that limit behind: it has to be
# tried again.  A key that it makes goes by what its project's settings are now.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
my $pepper = PostgreSQL::Test::Utils::tempdir() . '/pepper';
append_to_file($pepper, 'x' x 40);
chmod 0600, $pepper;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\napikey.pepper_file = '$pepper'\nclient_min_messages = warning");
$node->start;
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sql(q{CREATE EXTENSION apikey CASCADE;
	CREATE ROLE helper;
	SELECT apikey_organization_create('acme'), apikey_project_create('acme/pay');
	CREATE FUNCTION try(call text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE call;
		RETURN 'done';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$});
my $key = sql(q{SELECT apikey_create('held')});
my $id = sql("SELECT apikey_id('$key')");
sql(q{SELECT apikey_create('in-project', 'acme/pay')});

# What is done since a transaction began, and what that does then: first at an
# isolation level that reads as of before, then as of now.
sub since
{
	my ($meanwhile, $call, $level) = @_;
	my $past = $node->background_psql('postgres');
	$past->query_safe("BEGIN ISOLATION LEVEL $level");
	$past->query_safe('SELECT count(*) FROM apikeys');
	sql($meanwhile);
	my $result = $past->query_safe("SELECT try(\$try\$$call\$try\$)");
	$past->query_safe('COMMIT');
	$past->quit;
	return $result;
}
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	for my $kind ('rate', 'quota')
	{
		is(since("SELECT apikey_limit_set('pages', 2, '1 day', '$kind', key => '$id')", "SELECT apikey_rotate('$id')", $level),
			'40001', "a key is not rotated away from a $kind, $level");
		is(since("SELECT apikey_limit_set('words', 2, '1 day', '$kind', path => 'acme/pay')", q{SELECT apikey_project_drop('acme/pay', 'acme/pay')}, $level),
			'40001', "nor is a project dropped without its own");
		sql('SELECT apikey_limit_drop(id) FROM apikey_limits');
	}
	is(since(q{SELECT apikey_grant('administer', 'helper')}, q{SELECT apikey_ungrant('administer', 'helper')}, $level), '40001', 'a privilege is not said to be taken back');
	is(sql('SELECT count(*) FROM apikey_administrator'), '1', 'that is there still');
	sql(q{SELECT apikey_ungrant('administer', 'helper')});
}
is(since(q{SELECT apikey_limit_set('pages', 2, '1 day', 'quota', key => '} . $id . q{')}, "SELECT apikey_rotate('$id')", 'READ COMMITTED'), 'done', 'as of now it is rotated');
is(sql(q{SELECT string_agg(unit || ' of ' || k.name || ' ' || k.status, ',') FROM apikey_limits l JOIN apikeys k ON k.id = l.key_id}), 'pages of held active', 'with its limit');
is(since(q{SELECT apikey_limit_set('words', 2, '1 day', 'quota', path => 'acme/pay')}, q{SELECT apikey_project_drop('acme/pay', 'acme/pay')}, 'READ COMMITTED'), 'done', 'and a project dropped');
is(sql(q{SELECT count(*) FROM apikey_limit WHERE unit = 'words'}), '0', 'with its own');

# What is set again since is no limit that is not kept here.
for my $level ('REPEATABLE READ', 'SERIALIZABLE', 'READ COMMITTED')
{
	is(since(q{SELECT apikey_limit_set('pages', 4, '1 day', 'quota', subject => 'customer')}, q{SELECT apikey_limit_set('pages', 2, '1 day', 'quota', subject => 'customer')}, $level),
		$level eq 'READ COMMITTED' ? 'done' : '40001', "a limit that was set since is replaced as of now, $level");
	sql('SELECT apikey_limit_drop(id) FROM apikey_limits');
}

# The settings of a project.
sql(q{SELECT apikey_project_create('acme/set')});
my $number = 0;
my $import = q{SELECT apikey_import('imported-%d', 'sha256', encode(sha256('%1$d'), 'hex'), project => 'acme/set')};
my $create = q{SELECT apikey_create('made-%d', 'acme/set')};
sub set { return "UPDATE apikey_projects SET $_[0] WHERE path = 'acme/set'" }
for my $level ('REPEATABLE READ', 'SERIALIZABLE', 'READ COMMITTED')
{
	for my $call ($create, $import)
	{
		my $with = "as of now, $level: " . ($call eq $create ? 'made' : 'imported');
		sql(set("max_ttl = NULL, max_keys = NULL, terms = NULL, name_pattern = NULL, revealable = true"));
		is(since(set("max_ttl = '1 day'"), sprintf($call, ++$number), $level), '22023', "max_ttl $with");
		is(since(set("max_ttl = NULL, terms = 'v2'"), sprintf($call, ++$number), $level), '22023', "terms $with");
		is(since(set("terms = NULL, name_pattern = 'prod-.*'"), sprintf($call, ++$number), $level), '22023', "name_pattern $with");
		is(since(set("name_pattern = NULL, max_keys = 0"), sprintf($call, ++$number), $level), '53400', "max_keys $with");
		is(since(set("max_keys = NULL"), sprintf($call, ++$number), $level), 'done', "what is allowed $with");
	}
	is(since(set('revealable = false'), sprintf($create, ++$number), $level), 'done', 'made in a project that is not revealable any more');
	is(sql("SELECT try(format('SELECT apikey_reveal(%L)', id)) FROM apikeys WHERE name = 'made-$number'"), '55000', "is not shown, $level");
	is(since(set('revealable = true'), "SELECT apikey_rotate(id) FROM apikeys WHERE name = 'made-$number' AND status = 'active'", $level), 'done', 'rotated since it is');
	is(sql("SELECT try(format('SELECT apikey_reveal(%L)', id)) FROM apikeys WHERE name = 'made-$number' AND status = 'active'"), 'done', "it is shown, $level");
	is(since(set("max_ttl = '1 day'"), "SELECT apikey_rotate(id) FROM apikeys WHERE name = 'made-$number' AND status = 'active'", $level), 'done', 'rotated in a project that has a max_ttl since');
	is(sql("SELECT expires_at <= now() + interval '1 day' FROM apikeys WHERE name = 'made-$number' AND status = 'active'"), 't', "it ends within that, $level");
	# What it has changed itself counts, too.
	is($node->safe_psql('postgres', "BEGIN ISOLATION LEVEL $level; SELECT FROM apikeys; @{[set('max_ttl = NULL, max_keys = 0')]}; SELECT try(\$try\$@{[sprintf $create, ++$number]}\$try\$); ROLLBACK"), "53400", "its own settings, $level");
	# A key that was made before is not passed over by who does not see it.
	sql(set('max_ttl = NULL'));
	my $open = $node->background_psql('postgres');
	my $past = $node->background_psql('postgres');
	$open->query_safe('BEGIN; ' . sprintf $create, ++$number);
	sql(set("max_ttl = '1 hour'"));
	$past->query_safe("BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM apikeys");
	$open->query_safe('COMMIT');
	is($past->query_safe(q{SELECT try($$SELECT apikey_project_apply('acme/set')$$)}), $level eq 'READ COMMITTED' ? 'done' : '40001', "max_ttl is applied to all keys, $level");
	$past->query_safe('COMMIT');
	$open->quit;
	$past->quit;
	sql(q{SELECT apikey_project_apply('acme/set')});
	is(sql("SELECT expires_at <= now() + interval '1 hour' FROM apikeys WHERE name = 'made-$number'"), 't', 'by the next');
}

# Who looks at a limit as it was before, at any isolation level, by a cursor or in a
# parallel process, changes nothing of it; nor who looks, or spends, by a row of its
# own that is rolled back.
sql(q{CREATE FUNCTION judged(key text, cost int) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$
	BEGIN
		RETURN (SELECT code FROM apikey_verify(key, project => 'acme', cost => cost));
	END $$;
	SELECT apikey_project_create('acme/shop')});
my $shop = sql(q{SELECT apikey_create('limited', 'acme/shop', rate_limit => 5, rate_window => '1 second')});
my $shop_id = sql("SELECT apikey_id('$shop')");
my $free = sql(q{SELECT apikey_create('free', 'acme/shop')});
my $rate = sql(q{SELECT apikey_limit_set('requests', 5, '1 second', path => 'acme')});
my %past;
for my $how ('REPEATABLE READ', 'SERIALIZABLE', 'cursor', 'parallel')
{
	my $session = $past{$how} = $node->background_psql('postgres');
	$session->query_safe('BEGIN ISOLATION LEVEL ' . ($how eq 'cursor' ? 'READ COMMITTED' : $how eq 'parallel' ? 'REPEATABLE READ' : $how));
	$session->query_safe('SELECT count(*) FROM apikeys');
	$session->query_safe('DECLARE seen CURSOR FOR SELECT remaining FROM apikey_limits') if $how eq 'cursor';
	$session->query_safe(q{SELECT set_config(name, 'on', true) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')}) if $how eq 'parallel';
}
sql(q{UPDATE apikeys SET rate_window = '1 day' WHERE name = 'limited'}, q{UPDATE apikey_limits SET period = '1 day'});
is(sql("SELECT string_agg(judged('$shop', 1), ' ') FROM generate_series(1, 6) i WHERE i > 0"), 'valid valid valid valid valid rate_limited', 'what there is of a day');
my %looks = (
	cursor => ['FETCH ALL FROM seen'],
	parallel => ["SELECT judged('$shop', 0)", "SELECT judged('$shop', 1)"]);
for my $how (sort keys %past)
{
	$past{$how}->query_safe($_) for @{ $looks{$how} // ['SELECT remaining FROM apikey_limits', "SELECT judged('$shop', 0)"] };
	usleep(1_200_000);
	is(sql("SELECT judged('$shop', 1), judged('$free', 1)"), 'rate_limited|rate_limited', "who looks as of before gives nothing back: $how");
	$past{$how}->query_safe('COMMIT') if $how ne 'parallel';
}
$past{$_}->quit for keys %past;
for my $call ("SELECT judged('$shop', 0)", "SELECT judged('$shop', 1)", "SELECT apikey_charge('$shop_id', '{\"requests\": 1}', 'acme')")
{
	sql('BEGIN', q{UPDATE apikeys SET rate_window = '1 second' WHERE name = 'limited'}, q{UPDATE apikey_limits SET period = '1 second'}, $call, 'ROLLBACK');
	usleep(1_200_000);
	is(sql("SELECT judged('$shop', 1), judged('$free', 1)"), 'rate_limited|rate_limited', 'nor by a row that was rolled back: ' . $call =~ s/'ak_\w+'/.../r);
}
sql(q{UPDATE apikeys SET rate_window = '1 second' WHERE name = 'limited'}, q{UPDATE apikey_limits SET period = '1 second'});
is(sql("SELECT judged('$shop', 1)"), 'rate_limited', 'one that is committed');
ok($node->poll_query_until('postgres', "SELECT judged('$shop', 1) = 'valid'"), 'does');

$node->stop;
done_testing();
