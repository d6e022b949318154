"""Wrong rules of the line: see `mutations`."""

from tests.seats.mutations import Mutation

LINE = (
    Mutation(
        "a plain acquire overtakes the line",
        "if waiting == 0 or order == 0 then return waiting end",
        "if waiting == 0 or order == 0 then return 0 end",
    ),
    Mutation(
        "whoever stands in line overtakes it",
        "return redis.call('ZCOUNT', st.w, '-inf', '(' .. int(order))",
        "return 0",
    ),
    Mutation("an offer never lapses", "(NOW + TAKE_IT) * 2 + 1", "(NOW + 1000 * TAKE_IT) * 2 + 1"),
    Mutation("an offer lapses at once", "(NOW + TAKE_IT) * 2 + 1", "NOW * 2 + 1"),
    Mutation(
        "an offer is renewed by being seen",
        "elseif score % 2 == 0 then redis.call('ZADD', st.a, (NOW",
        "else redis.call('ZADD', st.a, (NOW",
    ),
    Mutation(
        "an offer that came to nothing lapses all the same",
        "  redis.call('ZADD', st.a, until_ms * 2, user)",
        "  redis.call('ZADD', st.a, 'NX', until_ms * 2, user)",
    ),
    Mutation("the order of a ticket is ignored", "op[13] > NOW and op[12] or 0", "0"),
    Mutation("a ticket that ran out counts", "op[13] > NOW and op[12] or 0", "op[12]"),
    Mutation(
        "the later of two orders counts",
        "return math.min(stored, ticket), stored",
        "return math.max(stored, ticket), stored",
    ),
    Mutation("who has gone keeps the place", "local PATIENCE = 10000", "local PATIENCE = 1000000"),
    Mutation("who has gone is not dropped", "if #gone > 0 then", "if false then"),
    Mutation("the line has no end", "if waiting >= 2 * st.cap then", "if false then"),
    Mutation(
        "a full line keeps an earlier order out",
        "or order >= last_order then return 0 end",
        "or true then return 0 end",
    ),
    Mutation("two join at one instant", "order = math.max(NOW, last_order + 1) end", "order = NOW end"),
    Mutation("who got a seat stands on", "  leave(st, user)\n  sit(", "  sit("),
    Mutation("who leaves stands on", "for _, user in ipairs(op[3]) do leave(st, user) end", ""),
    Mutation("who may not sit stands on", "if answer[1] ~= 'no_seat' then leave(st, user) end", ""),
    Mutation("to wait is a denial", "if refused[1] == 'busy' or waits then", "if refused[1] == 'busy' then"),
    Mutation(
        "a denial of who gives up is not told", "op[11] == 1 and refused[9] ~= 0", "op[11] > 0 and refused[9] ~= 0"
    ),
    Mutation("more seats are offered than are free", "offer(st, st.cap - in_use(st))", "offer(st, st.cap)"),
    Mutation("nothing is offered", "offer(st, st.cap - in_use(st))", "offer(st, 0)"),
    Mutation("a plain acquire offers nothing", "  offer(st, st.cap - used)\n", ""),
    Mutation("one's own seat is offered to the line", "if own == 1 then ahead = 0", "if false then ahead = 0"),
    Mutation("the sample forgets who waited", "    m.waiting = waiting\n", ""),
    Mutation("the sample says who waits last", "if waiting > m.waiting then", "if true then"),
    Mutation("two seats set the pace", "local FREED_MAX = 8", "local FREED_MAX = 2"),
    Mutation("seats nobody waited for set the pace", "if was >= st.cap and m.use < was then", "if m.use < was then"),
)  # fmt: skip
