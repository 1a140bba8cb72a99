# Events that are read as docs/operations.md says: each once, though a transaction
# that was left open brings a smaller number after greater ones.
use strict;
use warnings;
use lib 'test';
use Document;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
my ($block) = grep { $_->{text} =~ /FUNCTION new_events/ } blocks_of('docs/operations.md');
sql('CREATE EXTENSION apikey CASCADE');
sql($block->{text});

sub new_keys { return sql(q{SELECT string_agg(key_name, ' ' ORDER BY id) FROM new_events() WHERE event = 'created'}) }
sub create { return "SELECT apikey_create('$_[0]') IS NOT NULL" }

sql(create('first'));
is(new_keys(), 'first', 'an event');
is(new_keys(), '', 'which is read once');

my $open = $node->background_psql('postgres');
my $savepoint = $node->background_psql('postgres');
$open->query_safe($_) for 'BEGIN', create('open');
$savepoint->query_safe($_) for 'BEGIN', 'SAVEPOINT one', create('saved'), 'RELEASE one';
sql('BEGIN; ' . create('prepared') . "; PREPARE TRANSACTION 'events'");
sql(create($_)) for 'after', 'later';
is(new_keys(), 'after later', 'those that are committed, of greater numbers');
is(new_keys(), '', 'which are read once') for 1 .. 4;
sql(create('last'));
is(new_keys(), 'last', 'and one more');
$savepoint->query_safe('COMMIT');
is(new_keys(), 'saved', 'one of a transaction that was open');
$open->query_safe('COMMIT');
is(new_keys(), 'open', 'one of another');
is(new_keys(), '', 'which is read once') for 1 .. 3;
sql("COMMIT PREPARED 'events'");
is(new_keys(), 'prepared', 'and one of a prepared transaction');
is(new_keys(), '', 'which is read once') for 1 .. 4;
sql(create('end'));
is(new_keys(), 'end', 'and what comes then');
new_keys() for 1 .. 3;
is(sql('SELECT count(*) FROM events_seen'), 0, 'nothing is kept of what is settled');

$_->quit for $open, $savepoint;
$node->stop;
done_testing();
