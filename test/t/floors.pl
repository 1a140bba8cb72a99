# No file calls, reads from or includes one that stands on a higher floor, and
# each includes of other folders the doors alone.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;

my ($out, $err) = run_command([ 'test/floors' ]);
is($err, '', 'the arrows can be drawn');
unlike($out, qr/^up:/m, 'none runs up');
unlike($out, qr/^circle:/m, 'none leads back to where it began');
unlike($out, qr/^not by the door:/m, 'none passes by a door');
unlike($out, qr/^long:/m, 'no file and no function is too long');
like($out, qr/^\d+ arrows and \d+ includes between \d+ files, 0 of them wrong$/m, 'and there are some');

done_testing();
