//! AMX: products of tiles of 16 rows by 32 depths and 32 depths by 16 columns.
//!
//! Two tiles of rows meet the two tiles of a panel in four tiles of sums. A tile that would go beyond the last row
//! begins earlier instead and repeats rows, so that nothing behind the left side is read.

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::time::Instant;

use super::avx512::finish;
use super::{PANEL, Product, TILE};

/// Rows of a tile.
const ROWS: usize = 16;
/// The number of `arch_prctl` among x86-64 Linux' system calls, what asks it for a permission, and which one.
const ARCH_PRCTL: i64 = 158;
const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
const XFEATURE_XTILEDATA: i64 = 18;

/// Whether the processor has AMX-BF16, and the system lets this process use it. Asked once.
pub(in crate::bf16) fn is_permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| {
        let leaves = __cpuid(0).eax;
        // In leaf 7: AMX-BF16, AMX-TILE. In leaf 1: OSXSAVE, without which `xgetbv` faults.
        let has =
            leaves >= 7 && __cpuid_count(7, 0).edx >> 22 & 1 == 1 && __cpuid_count(7, 0).edx >> 24 & 1 == 1;
        if !has || __cpuid(1).ecx >> 27 & 1 == 0 {
            return false;
        }
        let (low, _high): (u32, u32);
        // SAFETY: `xgetbv` only reads, and the processor has it.
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _high, options(nomem, nostack)) };
        // The system saves tiles and their configuration when threads change.
        if low >> 17 & 3 != 3 {
            return false;
        }
        let refused: i64;
        // SAFETY: the call asks the system for leave to use tiles, and touches no memory of ours.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => refused, in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA, out("rcx") _, out("r11") _, options(nostack));
        }
        refused == 0
    })
}

/// What `ldtilecfg` reads: palette 1, and for each tile the bytes of a row and its rows.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

impl Configuration {
    /// Left sides and sums of `rows` rows; a panel's tiles, the registers 6 and 7, of 16 pairs.
    const fn new(rows: u8) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = if tile < 6 { rows } else { ROWS as u8 };
            tile += 1;
        }
        Self(bytes)
    }

    /// # Safety
    /// Needs AMX.
    unsafe fn load(&self) {
        // SAFETY: 64 bytes are there to be read, and they are a valid configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self, options(nostack, readonly, preserves_flags)) };
    }
}

static WHOLE: Configuration = Configuration::new(ROWS as u8);

thread_local! {
    /// How many [`super::Tiles`] this thread has.
    static ENTERED: Cell<usize> = const { Cell::new(0) };
}

/// Sets up the tile registers, if nobody has.
pub(super) fn enter() {
    if ENTERED.replace(ENTERED.get() + 1) == 0 {
        // SAFETY: only the kernels of `Unit::Amx` lead here, which exist where it `is_permitted`.
        unsafe { WHOLE.load() };
    }
}

/// Gives them back, with the last one who has set them up.
pub(super) fn leave() {
    ENTERED.set(ENTERED.get() - 1);
    if ENTERED.get() == 0 {
        // SAFETY: as above; nobody's tiles are lost.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// Sums of two tiles of rows in a panel.
#[repr(C, align(64))]
struct Sums([MaybeUninit<[f32; PANEL]>; 2 * ROWS]);

/// Computes `task`.
///
/// # Safety
/// Needs AMX-BF16 and AVX512_BF16, [`enter`]ed tiles, and a [`Product`] that [`super::Tiles::product`] has checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(in crate::bf16) unsafe fn product(task: &Product<'_>) {
    let mut sums = [const { Sums([MaybeUninit::uninit(); 2 * ROWS]) }; 2];
    // SAFETY: the caller's contract; all rows named are the task's.
    unsafe {
        if task.rows < ROWS {
            Configuration::new(task.rows as u8).load();
            for panel in 0..task.panels {
                one(task, panel, 0, &mut sums[0]);
                write(task, panel, 0, &sums[0].0[..task.rows]);
            }
            return WHOLE.load();
        }
        let last = task.rows - ROWS;
        for panel in 0..task.panels {
            let mut row = 0;
            let mut turn = 0;
            while row < task.rows {
                let sums = &mut sums[turn];
                if row >= last {
                    one(task, panel, last, sums);
                    write(task, panel, last, &sums.0[..ROWS]);
                } else {
                    let second = (row + ROWS).min(last);
                    two(task, panel, row, second, sums);
                    write(task, panel, row, &sums.0[..ROWS]);
                    write(task, panel, second, &sums.0[ROWS..]);
                }
                row += 2 * ROWS;
                turn = 1 - turn;
            }
        }
    }
}

/// Writes rows of sums, from `row` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn write(task: &Product<'_>, panel: usize, row: usize, sums: &[MaybeUninit<[f32; PANEL]>]) {
    for (index, sums) in sums.iter().enumerate() {
        // SAFETY: the caller's contract: they were stored; a row has two vectors.
        unsafe {
            let sums = [0, TILE].map(|at| _mm512_loadu_ps(sums.as_ptr().cast::<f32>().add(at)));
            finish(task, row + index, panel, sums);
        }
    }
}

/// Sums of the tiles of rows that begin at `first` and `second`.
#[inline]
unsafe fn two(task: &Product<'_>, panel: usize, first: usize, second: usize, sums: &mut Sums) {
    // SAFETY: the caller's contract: 16 rows and their blocks are there, as are the panel's weights and biases; the sums
    // have room for four tiles.
    unsafe {
        asm!(
            "tileloadd tmm0, [{bias} + {none}]",
            "tileloadd tmm1, [{bias} + {none} + 64]",
            "tileloadd tmm2, [{bias} + {none}]",
            "tileloadd tmm3, [{bias} + {none} + 64]",
            "2:",
            "tileloadd tmm6, [{weights} + {line}]",
            "tileloadd tmm4, [{first} + {stride}]",
            "tileloadd tmm7, [{weights} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{second} + {stride}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {first}, 64",
            "add {second}, 64",
            "add {weights}, 2048",
            "dec {blocks}",
            "jnz 2b",
            "tilestored [{sums} + {pitch}], tmm0",
            "tilestored [{sums} + {pitch} + 64], tmm1",
            "tilestored [{sums} + {pitch} + 2048], tmm2",
            "tilestored [{sums} + {pitch} + 2112], tmm3",
            bias = in(reg) task.bias.add(panel * PANEL),
            none = in(reg) 0_usize,
            line = in(reg) 64_usize,
            pitch = in(reg) 4 * PANEL,
            stride = in(reg) 2 * task.left_stride,
            first = inout(reg) task.left.add(first * task.left_stride) => _,
            second = inout(reg) task.left.add(second * task.left_stride) => _,
            weights = inout(reg) task.weights.add(panel * task.panel_len()) => _,
            blocks = inout(reg) task.blocks => _,
            sums = in(reg) sums,
            options(nostack),
        );
    }
}

/// Sums of one tile of rows.
#[inline]
unsafe fn one(task: &Product<'_>, panel: usize, first: usize, sums: &mut Sums) {
    // SAFETY: as above; with fewer rows in a tile, fewer are read and written.
    unsafe {
        asm!(
            "tileloadd tmm0, [{bias} + {none}]",
            "tileloadd tmm1, [{bias} + {none} + 64]",
            "2:",
            "tileloadd tmm6, [{weights} + {line}]",
            "tileloadd tmm4, [{first} + {stride}]",
            "tileloadd tmm7, [{weights} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {first}, 64",
            "add {weights}, 2048",
            "dec {blocks}",
            "jnz 2b",
            "tilestored [{sums} + {pitch}], tmm0",
            "tilestored [{sums} + {pitch} + 64], tmm1",
            bias = in(reg) task.bias.add(panel * PANEL),
            none = in(reg) 0_usize,
            line = in(reg) 64_usize,
            pitch = in(reg) 4 * PANEL,
            stride = in(reg) 2 * task.left_stride,
            first = inout(reg) task.left.add(first * task.left_stride) => _,
            weights = inout(reg) task.weights.add(panel * task.panel_len()) => _,
            blocks = inout(reg) task.blocks => _,
            sums = in(reg) sums,
            options(nostack),
        );
    }
}

/// Floating point operations a second on registers alone.
///
/// # Safety
/// Needs AMX-BF16.
pub(in crate::bf16) unsafe fn peak() -> f64 {
    const STEPS: usize = 2_000;
    enter();
    let begun = Instant::now();
    for _ in 0..STEPS {
        // SAFETY: the caller's contract, and the tiles are set up.
        unsafe {
            asm!(
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                options(nomem, nostack, preserves_flags),
            );
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    leave();
    (STEPS * 4 * 2 * ROWS * TILE * 2 * TILE) as f64 / seconds
}
