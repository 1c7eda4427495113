"""The one place with hand-made LLVM: steps that the vectoriser leaves scalar and that decide the speed.

Each intrinsic has a plain twin of the same name with ``_plain`` that the tests hold it against. Numba's disk cache
does not notice an edit here: the kernels' files carry ``SIMD_SOURCE``, the digest of this file, which a test compares.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_F32 = ir.FloatType()
_I32 = ir.IntType(32)


def _lanes(n):
    return ir.VectorType(_F32, n)


def _splat(builder, value, n):
    kind = _lanes(n)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined),
                                  ir.Constant(ir.VectorType(_I32, n), [0] * n))


def _load(builder, base, offset, n):
    value = builder.load(builder.bitcast(builder.gep(base, [offset]), _lanes(n).as_pointer()))
    value.align = 4
    return value


def _store(builder, value, base, offset):
    where = builder.bitcast(builder.gep(base, [offset]), value.type.as_pointer())
    builder.store(value, where).align = 4


def _data(context, builder, kind, array):
    return context.make_array(kind)(context, builder, array).data


@intrinsic
def blend_and_join(typingctx, own, p, other, line, start, weights, signs, lanes, x, out):
    """Compile `blend_and_join_plain`: five eight-lane loads and multiply-adds a pixel, one transposition for eight."""
    signature = types.void(own, p, other, line, start, weights, signs, lanes, x, out)

    def codegen(context, builder, sig, args):
        own_, p_, other_, line_, start_, weights_, signs_, lanes_, x_, out_ = args
        kinds = sig.args
        mine, theirs = _data(context, builder, kinds[0], own_), _data(context, builder, kinds[2], other_)
        first, weight = _data(context, builder, kinds[4], start_), _data(context, builder, kinds[5], weights_)
        target = _data(context, builder, kinds[9], out_)
        sign = _load(builder, _data(context, builder, kinds[6], signs_), p_.type(0), 8)
        flags = ("contract",)
        pixels = []
        for i in range(8):
            here = builder.add(x_, x_.type(i))
            upper = builder.zext(builder.load(builder.gep(first, [here])), p_.type)
            lower = builder.add(upper, line_)
            total = None
            for k, corner in enumerate((upper, builder.add(upper, p_.type(5)), lower, builder.add(lower, p_.type(5)))):
                at = builder.add(here, builder.mul(lanes_, lanes_.type(k)))
                share = _splat(builder, builder.load(builder.gep(weight, [at])), 8)
                term = builder.fmul(share, _load(builder, theirs, corner, 8), flags=flags)
                total = term if total is None else builder.fadd(term, total, flags=flags)
            pixel = _load(builder, mine, builder.add(p_, p_.type(5 * i)), 8)
            pixels.append(builder.fadd(builder.fmul(sign, total, flags=flags), pixel, flags=flags))
        for field, row in enumerate(_transposed(builder, pixels)[:5]):
            _store(builder, row, target, builder.add(x_, builder.mul(lanes_, lanes_.type(field))))
        return context.get_dummy_value()

    return signature, codegen


def _transposed(builder, rows):
    """Return eight vectors of eight lanes transposed."""
    def mixed(a, b, lanes):
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, 8), lanes))

    low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
    pairs = [mixed(rows[i], rows[i + 1], lanes) for i in (0, 2, 4, 6) for lanes in (low, high)]
    low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
    fours = [mixed(pairs[i], pairs[i + 2], lanes) for i in (0, 1, 4, 5) for lanes in (low, high)]
    low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    return [mixed(fours[i], fours[i + 4], lanes) for lanes in (low, high) for i in range(4)]


def blend_and_join_plain(own, p, other, line, start, weights, signs, lanes, x, out):
    """For pixels x to x+7 of a row: fields of `own` + `signs` * bilinear blend of `other`, five planes in `out`.

    `own` and `other` are flat, five fields a pixel; pixel x of the row starts at ``own[p]``; ``start[x]`` is where the
    upper left of the four blended pixels starts in `other`, `line` later the lower; `weights` (4, lanes) are their
    shares, `out` (5, lanes) the result. Eight lanes are read at each place, so both arrays need room at the end.
    """
    for i in range(8):
        at = start[x + i]
        corners = (at, at + 5, at + line, at + line + 5)
        for field in range(5):
            blend = sum(weights[k, x + i] * other[corner + field] for k, corner in enumerate(corners))
            out[field, x + i] = own[p + 5 * i + field] + signs[field] * blend


@intrinsic
def integrate_votes(typingctx, angles, lengths, above, below):
    """Compile `integrate_votes_plain` to one pass with the eight running sums in a register."""
    signature = types.void(angles, lengths, above, below)

    def codegen(context, builder, sig, args):
        angle, length, upper, lower = (_data(context, builder, kind, value)
                                       for kind, value in zip(sig.args, args, strict=True))
        count = context.make_array(sig.args[0])(context, builder, args[0]).nitems
        lanes = _lanes(8)
        bins = ir.Constant(lanes, [float(b) for b in range(8)])
        zero, minus_three, four = (ir.Constant(lanes, [v] * 8) for v in (0.0, -3.0, 4.0))
        bits = ir.VectorType(_I32, 8)
        no_sign = ir.Constant(bits, [0x7FFFFFFF] * 8)

        def absolute(v):
            return builder.bitcast(builder.and_(builder.bitcast(v, bits), no_sign), lanes)

        run = cgutils.alloca_once_value(builder, zero)
        with cgutils.for_range(builder, count) as loop:
            x = loop.index
            a = _splat(builder, builder.load(builder.gep(angle, [x])), 8)
            m = _splat(builder, builder.load(builder.gep(length, [x])), 8)
            away = absolute(builder.fsub(absolute(builder.fsub(a, bins)), four))  # 4 - distance around the circle
            vote = builder.fadd(builder.fmul(away, m, flags=("contract",)), builder.fmul(m, minus_three),
                                flags=("contract",))
            vote = builder.select(builder.fcmp_ordered(">", vote, zero), vote, zero)
            total = builder.fadd(vote, builder.load(run))
            builder.store(total, run)
            place = builder.mul(builder.add(x, x.type(1)), x.type(8))
            _store(builder, builder.fadd(total, _load(builder, upper, place, 8)), lower, place)
        return context.get_dummy_value()

    return signature, codegen


def integrate_votes_plain(angles, lengths, above, below):
    """Fill a row of an integral image of orientation histograms, eight bins a pixel, from the row above it.

    Pixel x adds ``lengths[x]`` to the two bins next to ``angles[x]`` (0 to 8 around the circle), split linearly;
    ``below[8 (x + 1) + b]`` is the sum of bin b over pixels 0 to x of this and all earlier rows.
    """
    run = [0.0] * 8
    for x in range(len(angles)):
        for b in range(8):
            distance = abs(angles[x] - b)
            run[b] += max(1.0 - distance, distance - 7.0, 0.0) * lengths[x]
            below[8 * (x + 1) + b] = above[8 * (x + 1) + b] + run[b]


@intrinsic
def cell_of_integral(typingctx, integral, a, b, c, d, epsilon, out, k):
    """Compile `cell_of_integral_plain` to four loads of eight lanes."""
    signature = types.void(integral, a, b, c, d, epsilon, out, k)

    def codegen(context, builder, sig, args):
        source = _data(context, builder, sig.args[0], args[0])
        upper_left, upper_right, lower_left, lower_right = (_load(builder, source, place, 8) for place in args[1:5])
        inside = builder.fsub(builder.fsub(lower_right, lower_left), builder.fsub(upper_right, upper_left))
        zero = ir.Constant(_lanes(8), [0.0] * 8)
        positive = builder.select(builder.fcmp_ordered(">", inside, zero), inside, zero)
        _store(builder, builder.fadd(positive, _splat(builder, args[5], 8)),
               _data(context, builder, sig.args[6], args[6]), args[7])
        return context.get_dummy_value()

    return signature, codegen


def cell_of_integral_plain(integral, a, b, c, d, epsilon, out, k):
    """Set ``out[k:k+8]`` to the sums of eight bins over the rectangle with these corners, not below 0, plus epsilon.

    a, b, c and d are where the eight bins of its upper left, upper right, lower left and lower right corner start.
    """
    for i in range(8):
        out[k + i] = max((integral[d + i] - integral[c + i]) - (integral[b + i] - integral[a + i]), 0.0) + epsilon


@intrinsic
def prefetch(typingctx, array, row, count):
    """Compile `prefetch_plain` to a hint for each cache line of the row."""
    signature = types.void(array, row, count)

    def codegen(context, builder, sig, args):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        whole = context.make_array(sig.args[0])(context, builder, args[0])
        width = builder.extract_value(whole.shape, 1)
        start = builder.gep(whole.data, [builder.mul(args[1], width)])
        step = args[2].type(16)
        with cgutils.for_range(builder, builder.sdiv(builder.add(args[2], args[2].type(15)), step)) as loop:
            line = builder.gep(start, [builder.mul(loop.index, step)])
            builder.call(hint, [builder.bitcast(line, pointer), _I32(1), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return signature, codegen


def prefetch_plain(array, row, count):
    """Do nothing: say that the first `count` numbers of this row are used soon."""


_FAST = ("arcp", "contract", "ninf", "nnan", "nsz", "reassoc")


@intrinsic
def relax_row(typingctx, planes, size, row, stride, lanes, bound, tau, ratio):
    """Compile `relax_row_plain` to one loop over 16 lanes, in which both halves share what they read."""
    signature = types.float32(planes, size, row, stride, lanes, bound, tau, ratio)

    def codegen(context, builder, sig, args):
        size_, row_, stride_, lanes_ = args[1:5]
        kind, n = _lanes(16), size_.type(16)
        base = _data(context, builder, sig.args[0], args[0])
        u, v, p11, p12, p21, p22, gx, gy, rho, inv = (
            builder.gep(base, [builder.add(row_, builder.mul(size_, size_.type(k)))]) for k in range(10))
        limit, step, slope = (_splat(builder, value, 16) for value in args[5:8])
        one, zero = ir.Constant(kind, [1.0] * 16), ir.Constant(kind, [0.0] * 16)
        least = builder.fsub(zero, limit)
        root = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), "llvm.sqrt.v16f32")
        total = cgutils.alloca_once_value(builder, zero)
        upper = builder.neg(stride_)

        def add(a, b):
            return builder.fadd(a, b, flags=_FAST)

        def sub(a, b):
            return builder.fsub(a, b, flags=_FAST)

        def mul(a, b):
            return builder.fmul(a, b, flags=_FAST)

        def clipped(value):
            low = builder.select(builder.fcmp_ordered("<", value, least), least, value)
            return builder.select(builder.fcmp_ordered(">", low, limit), limit, low)

        with cgutils.for_range(builder, builder.udiv(lanes_, n)) as loop:
            x = builder.mul(loop.index, n)
            above, before = builder.add(x, upper), builder.sub(x, x.type(1))

            def here(plane, place):
                return _load(builder, plane, place, 16)

            i, j, a, b = (here(plane, x) for plane in (gx, gy, u, v))
            away = clipped(mul(add(add(here(rho, x), mul(i, a)), mul(j, b)), here(inv, x)))
            a12, a22 = here(p12, above), here(p22, above)
            du = sub(add(sub(here(p11, x), here(p11, before)), sub(here(p12, x), a12)), mul(away, i))
            dv = sub(add(sub(here(p21, x), here(p21, before)), sub(here(p22, x), a22)), mul(away, j))
            builder.store(add(builder.load(total), add(mul(du, du), mul(dv, dv))), total)
            after = builder.add(above, above.type(1))
            for old, change, plane, first, second, last in ((a, du, u, p11, p12, a12), (b, dv, v, p21, p22, a22)):
                new = add(old, change)
                _store(builder, new, plane, x)
                left = here(plane, above)
                along, down = sub(here(plane, after), left), sub(new, left)
                length = builder.call(root, [add(mul(along, along), mul(down, down))], fastmath=_FAST)
                share = builder.fdiv(one, add(one, mul(slope, length)), flags=_FAST)
                _store(builder, mul(add(here(first, above), mul(step, along)), share), first, above)
                _store(builder, mul(add(last, mul(step, down)), share), second, above)
        reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_F32, [_F32, kind]),
                                                "llvm.vector.reduce.fadd.v16f32")
        return builder.call(reduce, [_F32(0.0), builder.load(total)], fastmath=("reassoc",))

    return signature, codegen


def relax_row_plain(planes, size, row, stride, lanes, bound, tau, ratio):
    """Do one TV-L1 iteration: primal step of the row that starts at `row`, dual step of the row `stride` before it.

    `planes` is flat: ten planes, `size` numbers apart, with u, v, theta * (p11, p12, p21, p22), the warped gradient
    gx, gy, rho_c and 1 / (gx^2 + gy^2); `bound` is lambda * theta, `ratio` tau / theta. `lanes`, a multiple of 16, is
    the number of pixels. Returns the sum of the squared changes of the flow.
    """
    u, v, p11, p12, p21, p22, gx, gy, rho, inv = (planes[k * size:(k + 1) * size] for k in range(10))
    total = 0.0
    for x in range(row, row + lanes):
        away = min(max((rho[x] + gx[x] * u[x] + gy[x] * v[x]) * inv[x], -bound), bound)
        change = (p11[x] - p11[x - 1] + p12[x] - p12[x - stride] - away * gx[x],
                  p21[x] - p21[x - 1] + p22[x] - p22[x - stride] - away * gy[x])
        total += change[0] ** 2 + change[1] ** 2
        u[x] += change[0]
        v[x] += change[1]
    for x in range(row - stride, row - stride + lanes):
        for plane, first, second in ((u, p11, p12), (v, p21, p22)):
            along, down = plane[x + 1] - plane[x], plane[x + stride] - plane[x]
            share = 1.0 / (1.0 + ratio * (along**2 + down**2) ** 0.5)
            first[x] = (first[x] + tau * along) * share
            second[x] = (second[x] + tau * down) * share
    return total


@intrinsic
def sample_with_gradient(typingctx, image, line, start, weights, lanes, x, out):
    """Compile `sample_with_gradient_plain` to six eight-lane loads a pixel and two transpositions for eight."""
    signature = types.void(image, line, start, weights, lanes, x, out)

    def codegen(context, builder, sig, args):
        line_, lanes_, x_ = args[1], args[4], args[5]
        image_, start_, weights_, out_ = (_data(context, builder, sig.args[k], args[k]) for k in (0, 2, 3, 6))
        half = ir.Constant(_lanes(8), [0.5] * 8)

        def sum_of(weights, vectors):
            total = None
            for weight, vector in zip(weights, vectors, strict=True):
                term = builder.fmul(weight, vector, flags=_FAST)
                total = term if total is None else builder.fadd(total, term, flags=_FAST)
            return total

        def plane(k):
            return builder.add(x_, builder.mul(lanes_, lanes_.type(k)))

        values, slopes = [], []
        for i in range(8):
            place = builder.zext(builder.load(builder.gep(start_, [builder.add(x_, x_.type(i))])), line_.type)
            rows = []
            for _ in range(6):
                rows.append(_load(builder, image_, place, 8))
                place = builder.add(place, line_)
            down = [_splat(builder, builder.load(builder.gep(weights_, [builder.add(plane(4 + k), x_.type(i))])), 8)
                    for k in range(4)]
            values.append(sum_of(down, rows[1:5]))
            slopes.append(sum_of(down, [builder.fsub(rows[k + 2], rows[k], flags=_FAST) for k in range(4)]))
        along = [_load(builder, weights_, plane(k), 8) for k in range(4)]
        columns = _transposed(builder, values)
        differences = [builder.fsub(columns[k + 2], columns[k], flags=_FAST) for k in range(4)]
        for k, row in enumerate((sum_of(along, columns[1:5]),
                                 builder.fmul(half, sum_of(along, differences), flags=_FAST),
                                 builder.fmul(half, sum_of(along, _transposed(builder, slopes)[1:5]), flags=_FAST))):
            _store(builder, row, out_, plane(k))
        return context.get_dummy_value()

    return signature, codegen


def sample_with_gradient_plain(image, line, start, weights, lanes, x, out):
    """For pixels x to x+7 of a row: the image and its gradient between the pixels, in `out` (3, lanes).

    `image` is flat, `line` numbers a row; ``start[x]`` is where the 6 x 6 pixels around the place begin; the first four
    of `weights` (8, lanes) weigh the middle four columns, the others the middle four rows. The gradient, along x then
    y, is that of central differences, weighed like the image. Eight lanes are read at each place.
    """
    for i in range(x, x + 8):
        patch = [[image[start[i] + r * line + c] for c in range(6)] for r in range(6)]
        along, down = [weights[k, i] for k in range(4)], [weights[4 + k, i] for k in range(4)]
        for k, (dy, dx) in enumerate(((0, 0), (0, 1), (1, 0))):
            total = 0.0
            for r in range(1, 5):
                for c in range(1, 5):
                    value = patch[r][c] if k == 0 else (patch[r + dy][c + dx] - patch[r - dy][c - dx]) / 2
                    total += down[r - 1] * along[c - 1] * value
            out[k, i] = total
