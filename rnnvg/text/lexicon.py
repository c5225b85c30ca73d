"""The words of the generated language: nouns, the verb that each asks for, and the words in between."""

from __future__ import annotations

# Each noun has a verb of its own: what must be remembered is which of forty nouns it was.
_AGREEING = (
    "dog:barks cat:purrs lion:roars wolf:howls horse:neighs sheep:bleats cow:moos pig:grunts duck:quacks "
    "frog:croaks owl:hoots crow:caws bee:buzzes snake:hisses mouse:squeaks bird:sings baby:cries child:laughs "
    "baker:bakes cook:fries farmer:ploughs sailor:rows writer:writes reader:reads dancer:dances singer:hums "
    "teacher:explains student:learns judge:decides thief:steals king:rules painter:paints tailor:sews "
    "doctor:heals miner:digs pilot:flies hunter:aims clock:ticks bell:rings river:flows"
)
_BETWEEN = (
    "with that near behind under above beside beyond across along around between among against toward without "
    "old young small large tall short round narrow wide deep quiet loud bright dark pale warm cool dry wet soft "
    "hard rough smooth sharp blunt heavy light thick thin clean dusty broken hidden empty full open closed early "
    "late slow quick gentle stern brave timid proud humble clever simple patient eager weary merry grave idle busy "
    "red green blue brown grey white black golden silver scarlet amber ivory wooden stone iron copper glass paper "
    "garden forest meadow valley mountain island harbour village castle tower bridge window door table chair lamp "
    "basket barrel bottle candle ladder hammer needle ribbon blanket carpet mirror letter book map coin ring "
    "morning evening winter summer autumn spring shadow thunder rain snow wind cloud frost moon star sun "
    "never always often seldom sometimes perhaps indeed almost nearly hardly quite rather very once twice again "
    "here there everywhere nowhere somewhere today tomorrow yesterday now then soon still already yet"
)
NOUNS = tuple(pair.split(":")[0] for pair in _AGREEING.split())
VERBS = tuple(pair.split(":")[1] for pair in _AGREEING.split())
BETWEEN = tuple(_BETWEEN.split())
