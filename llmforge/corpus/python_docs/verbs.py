"""English for docstrings: which first words are verbs, and their third person ("compute" -> "computes")."""

from __future__ import annotations

_VERBS = frozenset(
    """abort accept access accumulate acquire act activate adapt add adjust advance affect aggregate align allocate
    allow alter analyze annotate answer append apply approximate arrange ask assemble assert assign associate attach
    attempt augment average begin behave belong bind bisect block broadcast build byte-compile cache calculate call
    cancel canonicalize capture cast center change check choose clamp clean clear clip clone close coerce collapse
    collect color combine commit compare compile complete compose compress compute concatenate configure conform
    connect construct consume contain continue contract control convert convolve copy correspond count create cut
    cycle deallocate debug decide declare decode decompose decompress decorate decrease decrement decrypt deep-copy
    define delegate delete denote deny depend deregister derive describe deserialize destroy detach detect determine
    dictate differentiate disable disassemble discard disconnect discover dispatch display distribute divide do
    document double download draw drop dump duplicate echo eject eliminate embed emit emulate enable encapsulate
    encode encrypt end enforce ensure enter enumerate erase escape estimate evaluate examine exclude execute exit
    expand explain export expose express extend extract factor factorize fail feed fetch fill filter finalize find
    finish fire fit fix flag flatten flip flush fold force forget fork form format forward freeze fuse gather
    generate get give grant group guard guess halt handle hash help hide highlight hold identify ignore implement
    import include increase increment index indicate infer inform inherit initialize inject insert inspect install
    instantiate instruct integrate intercept interpolate interpret intersect introduce invalidate invert invoke
    isolate iterate join keep kill label launch leave let lift limit linearize link list listen load localize locate
    lock log look lookup lower maintain make manage manipulate map mark mask match mean measure memoize merge mirror
    model modify monitor move multiply mutate name need negate normalize note notify obtain occur offer open
    optimize order outline output override overwrite pack package pad page paint parse partition pass patch pause
    peek perform permute pick pickle place plot point poll pop populate position post predict prefetch prepare
    prepend preserve prevent print process produce profile project promote prompt propagate protect prove provide
    prune pull push put quantize query queue quit quote raise randomize rank ravel re-enable reach read reap
    rearrange rebuild receive recompute reconstruct record recover recreate redirect reduce refer refine reflect
    reformat refresh register reindex reinitialize reject relabel release reload remember remove rename render
    reorder repeat replace replay report represent request require rescale reserve reset reshape resize resolve
    restore restrict resume retrieve retry return reverse revert rewind rewrite roll rotate round run sample save
    scale scan scatter schedule scroll search seek select send separate serialize serve set setup shift show shrink
    shuffle shut shutdown signal simplify simulate sit skip sleep slice smooth solve sort spawn specify split square
    stack start stop store stream strip style submit subscribe substitute subtract suggest sum summarize supply
    support suppress suspend swap switch symmetrize synchronize take tell terminate test throw tile time toggle
    tokenize trace track train transfer transform translate transmit transpose traverse trigger trim truncate try
    turn unbind undo unescape unfold unify uninstall unlink unload unlock unmap unmask unpack unpickle unquote
    unregister unset unwind unwrap update upgrade upload upsample use validate verify view visit visualize wait wake
    walk warn watch weight work wrap write yield zero zip""".split()
)
_IRREGULAR = {
    "do": "does", "have": "has", "undo": "undoes",
    "setup": "sets up", "lookup": "looks up", "shutdown": "shuts down",
}  # fmt: skip


def _inflected(verb: str) -> str:
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb.endswith(("s", "sh", "ch", "x", "z")):
        return f"{verb}es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ies"
    return f"{verb}s"


_THIRD = {verb: _inflected(verb) for verb in _VERBS}
_FINISHED = frozenset(_THIRD.values())


def third_person(word: str) -> str | None:
    """ "compute" and "computes" -> "computes"; None for a word that is not known as a verb."""
    lower = word.lower()
    return lower if lower in _FINISHED else _THIRD.get(lower)
