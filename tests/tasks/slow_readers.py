"""Slow, obvious readers: from what a sequence shows, step by step, what is due where, and how far back it was seen.

Each gives {step: (answer as the task's class, steps since it was seen)} for one sequence of a task's batch.
"""


def copied(tokens, task):
    """Variable and selective copy: symbols queue up, and each sign, or the steps after a single one, asks for the next."""
    sign = task.settings["n_symbols"] + 1
    queue, due, told = [], {}, False
    for step, token in enumerate(tokens):
        if 1 <= token < sign:
            queue.append((step, token))
        # A single sign comes one step before the recall, a row of them is the recall.
        if queue and (told if task.name == "variable-copy" else token == sign):
            seen, symbol = queue.pop(0)
            due[step] = (symbol, step - seen)
        told = told or token == sign
    assert not queue
    return due


def recalled(tokens, task):
    place = next(step for step, token in enumerate(tokens) if token)
    assert [token for token in tokens if token] == [tokens[place], task.settings["n_symbols"] + 1]
    assert tokens[-1] == task.settings["n_symbols"] + 1
    return {len(tokens) - 1: (tokens[place] - 1, len(tokens) - 1 - place)}


def latched(numbers, task):
    marked = [step for step, (_, mark) in enumerate(numbers) if mark]
    assert marked == [0]
    assert numbers[0][0] in (-1.0, 1.0)
    return {len(numbers) - 1: (int(numbers[0][0] > 0), len(numbers) - 1)}


def looked_up(tokens, task):
    first_value = task.settings["n_keys"] + 1
    held, due = {}, {}
    for step, token in enumerate(tokens):
        if token == 0:
            continue
        if step < 2 * task.settings["pairs"]:
            if step % 2 == 0:
                assert 1 <= token < first_value
                assert token not in held
                key = token
            else:
                assert token >= first_value
                held[key] = (token - first_value, step)
        else:
            value, seen = held.pop(token)
            due[step] = (value, step - seen)
    assert not held
    return due


def ordered(tokens, task):
    assert tokens[0] == 6
    assert tokens[-1] == 7
    assert 6 not in tokens[1:]
    assert 7 not in tokens[:-1]
    rare = [(step, token - 4) for step, token in enumerate(tokens) if token in (4, 5)]
    assert len(rare) == {"2-symbol": 2, "3-bit": 3, "2-symbol-wide": 2}[task.settings["variant"]]
    answer = int("".join(str(bit) for _, bit in rare), 2)
    return {len(tokens) - 1: (answer, {len(tokens) - 1 - step for step, _ in rare})}


def counted(tokens, task):
    due = {step: (sum(tokens[: step + 1]) % 2, set(range(step + 1))) for step in range(len(tokens))}
    return due if task.settings["scored"] == "all" else {len(tokens) - 1: due[len(tokens) - 1]}


def nested(tokens, task):
    stack, due = [], {}
    for step, token in enumerate(tokens):
        if token < task.settings["kinds"]:
            stack.append((step, token))
            assert len(stack) <= task.settings["depth"]
        else:
            seen, kind = stack.pop()
            due[step] = (kind, step - seen)
    assert not stack
    return due


READERS = {
    "variable-copy": copied,
    "selective-copy": copied,
    "delayed-recall": recalled,
    "noisy-recall": latched,
    "associative-recall": looked_up,
    "temporal-order": ordered,
    "parity": counted,
    "dyck": nested,
}


def read(task, sequence):
    """The answers that are due in one sequence, [T] numbers or tokens of a tensor."""
    return READERS[task.name](sequence.tolist(), task)
