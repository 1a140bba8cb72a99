# No C file calls, or reads from, one that stands on a higher floor.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;

my ($out, $err) = run_command([ 'test/floors' ]);
is($err, '', 'the arrows can be drawn');
unlike($out, qr/^up:/m, 'none runs up');
like($out, qr/^\d+ arrows between \d+ files, 0 of them up$/m, 'and there are some');

done_testing();
