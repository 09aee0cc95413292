//! Adam on the flex backend: every number is read and written once.

use burn::backend::Flex;
use rayon::prelude::*;

use super::{AdamOps, AdamStep, plain};
use crate::ops::{
    flex::{FlexTensor, TASK, all_f32, in_order, run_of_rows},
    math::vectorize,
};

impl AdamOps for Flex {
    fn adam_step(
        parameter: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        step: AdamStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        if !all_f32(&[&parameter, &gradient, &first, &second]) {
            return plain::<Flex>(parameter, gradient, first, second, step);
        }
        let (mut parameter, gradient) = (in_order(parameter), in_order(gradient));
        let (mut first, mut second) = (in_order(first), in_order(second));
        let run = run_of_rows(1);
        let parameters = parameter.storage_mut::<f32>().par_chunks_mut(run);
        let gradients = gradient.storage::<f32>().par_chunks(run);
        let firsts = first.storage_mut::<f32>().par_chunks_mut(run);
        let seconds = second.storage_mut::<f32>().par_chunks_mut(run);
        let runs = parameters.zip(gradients).zip(firsts.zip(seconds));
        let [correction_1, correction_2] = step.corrections();
        let [beta_1, beta_2] = [step.beta_1 as f32, step.beta_2 as f32];
        let [new_1, new_2] = [(1.0 - step.beta_1) as f32, (1.0 - step.beta_2) as f32];
        let (kept, epsilon) = (step.kept() as f32, step.epsilon as f32);
        let (rate, inverse) = (
            (step.rate / correction_1) as f32,
            correction_2.recip() as f32,
        );
        runs.with_min_len(TASK)
            .for_each(|((parameters, gradients), (firsts, seconds))| {
                vectorize(
                    #[inline(always)]
                    |_| {
                        let numbers = parameters.iter_mut().zip(gradients);
                        let moments = firsts.iter_mut().zip(seconds);
                        for ((parameter, gradient), (first, second)) in numbers.zip(moments) {
                            *first = *first * beta_1 + gradient * new_1;
                            *second = *second * beta_2 + gradient * gradient * new_2;
                            let deviation = (*second * inverse).sqrt() + epsilon;
                            *parameter = *parameter * kept - rate * *first / deviation;
                        }
                    },
                );
            });
        (parameter, first, second)
    }
}
