# The table and the chart of a benchmark: a line for each measure, of which
# come its name, unit, goal and runs, tab-separated.
BEGIN {
	FS = "\t"
	printf "%-58s %-24s %-8s %s\n", "measure", "median (range)", "goal", ""
}
{
	n = split($4, v, " ")
	for (i = 2; i <= n; i++)
		for (j = i; j > 1 && v[j] + 0 < v[j - 1] + 0; j--) {
			t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
		}
	median = v[int((n + 1) / 2)] + 0
	unit = $2 == "x" ? "" : " " $2
	split($3, goal, " ")
	met = goal[1] == ">=" ? median >= goal[2] : median <= goal[2]
	printf "%-58s %-24s %-8s %s\n", $1, figure(median) unit " (" figure(v[1]) " to " figure(v[n]) ")", \
		$3, $3 == "" ? "" : met ? "met" : "missed"
	# How much of the goal was reached; where the goal is nothing, all or nothing.
	if ($3 != "") {
		if (goal[1] == ">=")
			part = median / goal[2]
		else if (goal[2] == 0)
			part = met
		else
			part = median > 0 ? goal[2] / median : 2
		chart[++charts] = sprintf("%-58s %s", $1, bar(part))
	}
}
END {
	printf "\n%-58s %s\n", "how much of the goal", "0" blanks(18) "1" blanks(18) "2"
	for (i = 1; i <= charts; i++)
		print chart[i]
}
function figure(x) { return x == int(x) ? x "" : sprintf(x >= 10 ? "%.1f" : x >= 1 ? "%.2f" : "%.3f", x) }
function blanks(count) { return sprintf("%" count "s", "") }
function bar(part,   s, i) {
	for (i = 1; i <= 39 && i <= part * 20 + 0.5; i++)
		s = s (i == 20 ? "|" : "#")
	return s (part >= 2 ? ">" : "")
}
