# Keys of revealable projects are shown again; what is kept of them is not
# their text, and nothing without the pepper.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $file = "$dir/pepper";
my ($old, $new) = ('old-' . 'x' x 40, 'new-' . 'y' x 40);

sub write_file
{
	my ($content) = @_;
	unlink $file;
	open my $out, '>', $file or die $!;
	chmod 0600, $file;
	print $out $content;
	close $out;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sub fails { my ($sql) = @_; my ($r, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql"); return $err =~ /ERROR:  (\w{5})/ ? $1 : 'none' }

sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE anna; CREATE ROLE dora;
	SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/pay');
	SELECT apikey_member_add('acme/pay', 'anna', 'admin'); SELECT apikey_member_add('acme/pay', 'dora', 'developer')});
my $revealable = sub { sql("UPDATE apikey_projects SET revealable = $_[0] WHERE path = 'acme/pay'") };
my $create = sub { sql("SET ROLE anna; SELECT apikey_create('$_[0]', 'acme/pay')") };
my $reveal = sub { return "SET ROLE anna; SELECT apikey_reveal(apikey_id('$_[0]'))" };

$revealable->('true');
my $unpeppered = $create->('unpeppered');
write_file("$old\n");
$node->append_conf('postgresql.conf', "apikey.pepper_file = '$file'");
$node->restart;
my $first = $create->('first');
$revealable->('false');
my $plain = $create->('plain');
$revealable->('true');
my $personal = sql(q{SET ROLE anna; SELECT apikey_create('personal')});

my $offset = -s $node->logfile;
is(sql($reveal->($first)), $first, 'a key of a revealable project');
my $first_id = sql("SELECT apikey_id('$first')");
is(sql("BEGIN; SET ROLE anna; SELECT apikey_reveal('$first_id'); ROLLBACK"), $first, 'in a transaction that is rolled back, too');
my $told = slurp_file($node->logfile, $offset);
is(scalar(() = $told =~ /LOG:  API key "$first_id" is revealed to role "anna"/g), 2, 'without the library preloaded the log tells of each');
unlike($_, qr/\Q@{[substr($first, 30, 20)]}\E/, 'without the key') for $told =~ /^.*is revealed.*$/mg;
is(fails($reveal->($unpeppered)), '55000', 'one that was made without a pepper');
is(fails($reveal->($plain)), '55000', 'one that was made while the project was not revealable');
is(fails($reveal->($personal)), '55000', 'a personal one');
is(fails("SET ROLE dora; SELECT apikey_reveal(apikey_id('$first'))"), '42704', 'a developer');
sql(q{UPDATE apikey_projects SET members_can_view = true});
is(fails("SET ROLE dora; SELECT apikey_reveal(apikey_id('$first'))"), '42501', 'one who sees it');
my $top = sql(q{SELECT apikey_create('top', 'acme/pay')});
is(fails($reveal->($top)), '42501', 'a key above the own role');
is(sql("SELECT apikey_reveal(apikey_id('$top'))"), $top, 'for a superuser');
is(sql(q{SELECT key_name, actor FROM apikey_events WHERE event = 'revealed' AND actor = 'anna'}), 'first|anna', 'each is an event');
$revealable->('false');
is(sql($reveal->($first)), $first, 'the setting is about the time when a key is made');
$revealable->('true');

# What is kept.
unlike(sql(q{SELECT encode(ciphertext, 'escape') FROM apikey_reveal}), qr/\Q$first\E|\Q@{[substr($first, 30, 20)]}\E/, 'not the text');
is(sql(q{SELECT count(*) FROM apikey_reveal WHERE position('ak_'::bytea IN ciphertext) > 0}), '0', 'nor a part of it');
$node->stop;
my $found = 0;
for my $path (split /\n/, `find @{[$node->data_dir]} -type f -not -name 'postmaster*'`)
{
	$found++ if slurp_file($path) =~ /\Q@{[substr($first, -39, 33)]}\E/;
}
is($found, 0, 'no file of the server has the secret');
$node->start;

# The rows of two keys exchanged.
sql("UPDATE apikey_reveal SET ciphertext = (SELECT ciphertext FROM apikey_reveal WHERE id = apikey_id('$top')) WHERE id = apikey_id('$first')");
is(fails($reveal->($first)), '55000', 'the text of another key');

# Rotation, revocation, deletion, another pepper.
my $second = $create->('second');
my $third = sql("SET ROLE anna; SELECT apikey_rotate(apikey_id('$second'), '1 hour')");
is(sql($reveal->($third)) . sql($reveal->($second)), $third . $second, 'a successor, and its predecessor');
my $fourth = sql("SET ROLE anna; SELECT apikey_rotate(apikey_id('$third'))");
is(fails($reveal->($third)) . fails($reveal->($second)), '5500055000', 'until it is revoked');
is(sql(q{SELECT count(*) FROM apikey_reveal r JOIN apikeys k USING (id) WHERE status = 'revoked'}), '0', 'then nothing is kept');
write_file("$new\n$old\n");
$node->restart;
my $fifth = $create->('fifth');
is(sql($reveal->($fourth)) . sql($reveal->($fifth)), $fourth . $fifth, 'under either pepper');
# One that is used moves with its digest, where the worker is.
my $used = 'used';
write_file("$old\n");
$node->restart;
$used = $create->('used');
write_file("$new\n$old\n");
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\napikey.flush_interval = '100ms'");
$node->restart;
is(sql("SELECT count(*) FROM apikey_reveal WHERE id IN (apikey_id('$used'), apikey_id('$top')) AND pepper = (SELECT pepper FROM apikey_reveal WHERE id = apikey_id('$fifth'))"),
	'0', 'two are under the old one');
is(sql("SELECT code FROM apikey_verify('$used', project => 'acme')"), 'valid', 'one is used');
ok($node->poll_query_until('postgres', "SELECT r.pepper = (SELECT pepper FROM apikey_reveal WHERE id = apikey_id('$fifth')) FROM apikey_reveal r WHERE id = apikey_id('$used')"),
	'and moves to the new one');
write_file("$new\n");
$node->restart;
is(fails("SELECT apikey_reveal(apikey_id('$top'))"), '55000', 'a pepper that is gone');
is(sql($reveal->($fourth)) . sql($reveal->($fifth)) . sql($reveal->($used)), $fourth . $fifth . $used, 'what was shown or used is under the one that is not');
unlink $file;
$node->restart;
is(fails($reveal->($fifth)), '55000', 'no pepper at all');
write_file("$new\n");
$node->restart;
sql(q{SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'fifth'});
is(sql("SELECT count(*) FROM apikey_reveal WHERE id = apikey_id('$fifth')"), '0', 'a deleted key');
sql(q{SELECT apikey_project_drop('acme/pay', 'acme/pay')});
is(sql('SELECT count(*) FROM apikey_reveal'), '0', 'a dropped project');

# A function planted in front of pgcrypto's is not called.
sql(q{SELECT apikey_project_create('acme/new'); UPDATE apikey_projects SET revealable = true;
	CREATE FUNCTION pgp_sym_decrypt(bytea, text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'planted' $$});
my $last = sql(q{SELECT apikey_create('last', 'acme/new')});
is(sql("SELECT apikey_reveal(apikey_id('$last'))"), $last, 'a planted function');

note 'A reveal is told of, whatever becomes of its transaction.';
sql(q{UPDATE apikey_projects SET revealable = true; SELECT apikey_member_add('acme/new', 'anna', 'admin'); CREATE ROLE bert;
	SELECT apikey_member_add('acme/new', 'bert', 'admin')});
$node->append_conf('postgresql.conf', "apikey.flush_interval = '1h'\nmax_prepared_transactions = 5\nlisten_addresses = '127.0.0.1'");
unlink $node->data_dir . '/pg_hba.conf';
$node->append_conf('pg_hba.conf', "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256");
$node->restart;
my %id;
sub key { my ($name) = @_; return $id{$name} = sql("SET ROLE anna; SELECT apikey_id(apikey_create('$name', 'acme/new'))") }
# What the owner is told of a key: who, and what became of it.
sub told
{
	my ($name) = @_;
	sql('SELECT apikey_flush()');
	return sql(qq{SELECT string_agg(concat_ws(' ', actor, actor_subject, host(client_addr), detail - 'revealed_at'), ', ' ORDER BY id)
		FROM apikey_events WHERE event = 'revealed' AND key_name = '$name' AND key_id = '$id{$name}' AND project = 'acme/new'});
}
my $undone = '{"rolled_back": true}';
key($_) for qw(committed whole savepoint caught failed two ended prepared undone subject address gone late stopped);
sql("SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{committed}'); COMMIT");
is(told('committed'), 'anna', 'one that is committed is told once');
my $shown = sql("SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{whole}'); ROLLBACK");
is(sql("SELECT apikey_id('$shown')"), $id{whole}, 'one that is rolled back has been shown');
is(told('whole'), "anna $undone", 'and is told');
is(told('whole'), "anna $undone", 'once');
ok(sql("SELECT (detail->>'revealed_at')::timestamptz BETWEEN now() - interval '1 hour' AND at FROM apikey_events WHERE event = 'revealed' AND key_name = 'whole'") eq 't', 'with its time');
sql("SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{committed}'); SAVEPOINT s; SELECT apikey_reveal('$id{savepoint}'); ROLLBACK TO s; COMMIT");
is(told('savepoint'), "anna $undone", 'a savepoint');
is(told('committed'), 'anna, anna', 'what stands before it is committed');
sql(qq{SET ROLE anna; DO \$\$ DECLARE k text; BEGIN
	BEGIN k := apikey_reveal('$id{caught}'); RAISE 'kept %', k; EXCEPTION WHEN raise_exception THEN NULL; END; END \$\$});
is(told('caught'), "anna $undone", 'an exception that is caught');
my ($rc, $out, $err) = $node->psql('postgres', "SET ROLE anna; DO \$\$ BEGIN RAISE '%', apikey_reveal('$id{failed}'); END \$\$");
isnt($rc, 0, 'a statement that fails');
is(told('failed'), "anna $undone", 'is told');
sql("BEGIN; SET ROLE anna; SELECT apikey_reveal('$id{two}'); SET ROLE bert; SELECT apikey_reveal('$id{two}'); RESET ROLE; ROLLBACK");
is(told('two'), "anna $undone, bert $undone", 'two roles in a transaction');
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe("BEGIN; SELECT apikey_reveal('$id{ended}')");
is(told('ended'), '', 'as long as it is open, nothing is told');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE state = 'idle in transaction'}), 'a session is ended');
like(told('ended'), qr/^\S+ \Q$undone\E$/, 'which is told');
eval { $session->quit };
sql("SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{prepared}'); PREPARE TRANSACTION 'p'");
is(told('prepared'), 'anna {"prepared": true}', 'one that is prepared is told');
sql("COMMIT PREPARED 'p'");
is(told('prepared'), 'anna, anna {"prepared": true}', 'and once more with its commit');
sql("SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{undone}'); PREPARE TRANSACTION 'p'");
sql("ROLLBACK PREPARED 'p'");
is(told('undone'), 'anna {"prepared": true}', 'whatever becomes of it');
sql("ALTER DATABASE postgres SET apikey.subject_setting = 'app.uid'");
sql("SET app.uid = 'üser-1'; SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{subject}'); ROLLBACK");
sql('ALTER DATABASE postgres RESET apikey.subject_setting');
is(told('subject'), "anna üser-1 $undone", 'with the subject');
{
	local $ENV{PGPASSWORD} = sql('SELECT gen_random_uuid()');
	sql("ALTER ROLE CURRENT_USER PASSWORD '$ENV{PGPASSWORD}'");
	$node->psql('postgres', "SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{address}'); ROLLBACK", connstr => $node->connstr('postgres') =~ s/host=\S+/host=127.0.0.1/r);
}
is(told('address'), "anna 127.0.0.1 $undone", 'and the address');

# The key is gone before the worker comes; or was never there.
sql("SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{gone}'); ROLLBACK; SELECT apikey_delete('$id{gone}', 'gone')");
is(told('gone'), "anna $undone", 'a key that was deleted meanwhile');
sql(q{SET ROLE anna; BEGIN; SELECT length(apikey_reveal(apikey_id(apikey_create('never', 'acme/new')))); ROLLBACK; SELECT apikey_create('never', 'acme/new')});
$id{never} = sql(q{SELECT id FROM apikeys WHERE name = 'never'});
is(told('never'), '', 'of one that was rolled back itself there is nothing to tell');

# A clean stop.
sql("SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{late}'); ROLLBACK");
$session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe("SET ROLE anna; BEGIN; SELECT apikey_reveal('$id{stopped}')");
$node->restart;
eval { $session->quit };
is(told('late') . told('stopped'), "anna ${undone}anna $undone", 'what was to be told outlives a stop, and what that has ended is told');

# Room.
sql(q{SET ROLE anna; SELECT count(apikey_create('many-' || i, 'acme/new')) FROM generate_series(1, 40) i});
$session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe("SET ROLE anna; BEGIN");
$session->query_safe(q{SELECT count(apikey_reveal(id)) FROM apikeys WHERE name LIKE 'many-%'});
$session->query_safe('ROLLBACK');
sql('SELECT apikey_flush()');
is(sql(q{SELECT count(*), count(DISTINCT key_id) FROM apikey_events WHERE event = 'revealed' AND key_name LIKE 'many-%'}), '40|40', 'many in a transaction');
$session->query_safe('BEGIN');
$session->query_safe(qq{DO \$\$ DECLARE n int := 0; BEGIN
	FOR i IN 1 .. 20000 LOOP
		BEGIN
			PERFORM apikey_reveal('$id{whole}');
			n := n + 1;
			RAISE SQLSTATE 'YYYYY';
		EXCEPTION WHEN SQLSTATE 'YYYYY' THEN NULL; WHEN object_not_in_prerequisite_state THEN EXIT;
		END;
	END LOOP;
	PERFORM set_config('my.n', n::text, false);
	END \$\$});
my $kept = $session->query_safe("SELECT current_setting('my.n')");
cmp_ok($kept, '>', 50, "a role has room for $kept savepoints");
cmp_ok($kept, '<', 130, 'and no more than its share');
is(fails("SET ROLE anna; SELECT apikey_reveal('$id{whole}')"), '55000', 'beyond that nothing is shown');
is(sql("SET ROLE bert; SELECT apikey_id(apikey_reveal('$id{whole}'))"), $id{whole}, 'to another role it is');
$session->query_safe('ROLLBACK');
sql('SELECT apikey_flush()');
is(sql(qq{SELECT count(*) FROM apikey_events WHERE event = 'revealed' AND key_name = 'whole' AND detail->>'rolled_back' = 'true'}), $kept + 1, 'each is told');
is(sql("SET ROLE anna; SELECT apikey_id(apikey_reveal('$id{whole}'))"), $id{whole}, 'and there is room again');
$session->quit;
$node->stop;
done_testing();
